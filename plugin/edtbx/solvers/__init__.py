"""Solvers of the scattering problem of one block, the hook that registers them, and their registry."""
