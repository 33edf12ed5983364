"""Checks of indices, UB matrix, cell and scan geometry of data against a model, and reindexing."""
