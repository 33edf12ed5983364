"""Solvers of the many-beam scattering problem, the hook that registers them, and their registry."""
