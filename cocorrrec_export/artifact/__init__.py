"""An exported folder: its manifest, its recipe, and what it reports about itself."""
