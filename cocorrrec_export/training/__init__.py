"""Train the joint model."""
