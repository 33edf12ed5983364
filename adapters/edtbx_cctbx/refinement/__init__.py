"""Both theories fitted to data: settings, constraints of the model, minimisers, results."""
