"""Hydrogen atoms: riding constraints, and placement by geometry."""
