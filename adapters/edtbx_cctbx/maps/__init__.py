"""Difference-potential maps: coefficients, peaks, and hydrogen among them."""
