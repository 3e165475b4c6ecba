"""``bundle ios``: later."""
