"""Structure factors in, intensities of frames out: the sum of waves over tilts, spread and thickness."""
