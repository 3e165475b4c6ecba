"""The modules behind the export graphs, one file per model, and the weights they store."""
