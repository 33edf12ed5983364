"""Whether indices, UB matrix, cell and scan geometry of data belong to a model, and what to do where not."""
