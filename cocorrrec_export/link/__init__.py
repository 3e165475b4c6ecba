"""The exchange between phone and cloud, measured over shaped sockets."""
