"""What a profile found: its document, its page, its plots, and how two compare."""
