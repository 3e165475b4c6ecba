"""The paper's model in plain torch."""
