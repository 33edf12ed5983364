"""Files: reading .cif_pets and CIF, telling what a file is, writing results whole and over nothing else."""
