"""Refinement targets, least squares and minimisers that take the place of cctbx's own."""
