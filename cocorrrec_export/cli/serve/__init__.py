"""``cocorr-serve``, one file per command."""
