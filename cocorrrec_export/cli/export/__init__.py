"""``cocorr-export``, one file per command."""
