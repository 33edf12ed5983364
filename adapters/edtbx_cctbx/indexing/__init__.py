"""Whether indices, UB matrix, cell and model belong together, and how to bring them together."""
