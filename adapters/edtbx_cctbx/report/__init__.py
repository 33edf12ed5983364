"""Results as text, CIF, SHELX, CSV, JSON and pictures."""
