"""Quantities of an xray.structure: form factors, structure factors and their derivatives, bonds."""
