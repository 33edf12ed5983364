"""Structures from CIF, mmCIF, PDB and SHELX files."""
