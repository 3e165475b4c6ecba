"""The Python face: one function for each job, what ``import cocorrrec_export`` gives."""
