"""What a model and its exported files cost: operations, memory, time."""
