"""Refinement of a structure against a target: parameters of the atoms and of the measurement in turn."""
