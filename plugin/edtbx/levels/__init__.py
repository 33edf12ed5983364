"""How finely to sample: levels from coarse to fine, and the one that a tolerance asks for."""
