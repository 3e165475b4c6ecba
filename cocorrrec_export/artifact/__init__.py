"""An exported folder: its manifest, its recipe, and what it says of itself."""
