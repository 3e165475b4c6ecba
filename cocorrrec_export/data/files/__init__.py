"""Readers of interaction files, one per format."""
