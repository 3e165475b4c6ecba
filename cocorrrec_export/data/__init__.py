"""From a file of interactions to arrays of examples."""
