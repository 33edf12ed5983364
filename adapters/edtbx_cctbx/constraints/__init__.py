"""What holds among the parameters of atoms: shared sites, occupancies, linear equations, restraints."""
