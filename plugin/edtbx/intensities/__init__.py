"""Intensities of frames from structure factors: incoherent sums over tilts, orientation spread and thickness."""
