"""Hydrogen atoms: where they ride, and where they are missing."""
