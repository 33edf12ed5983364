"""Constraints and restraints on parameters of atoms: shared sites, occupancies, linear equations."""
