"""Weights that another tool trained: read them, recognize their layout, and write them back."""
