"""Interactions of users with items: reading, filtering, splitting, sampling."""
