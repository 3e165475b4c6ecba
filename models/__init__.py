"""Ready models of cocorrrec-export: one folder each."""
