"""``cocorr-profile``, one file per command."""
