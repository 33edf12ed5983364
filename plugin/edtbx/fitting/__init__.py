"""Fits to measured intensities: scales, thickness and spread, least squares, losses, maps."""
