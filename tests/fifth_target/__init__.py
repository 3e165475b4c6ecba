"""A target that is one row and these two modules: torch's own ``.pt2``, run by torch."""
