"""What holds atoms in a refinement besides smtbx: linear equations, occupancies, shared sites, files of SHELX."""
