"""SHELX files: text, instructions, atoms, free variables."""
