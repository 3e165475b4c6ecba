"""An export as a folder to drop into an app."""
