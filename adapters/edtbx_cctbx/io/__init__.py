"""Files that other programs write: told apart, their text, and what is mended or refused on the way to a structure."""
