"""Files of models: their text, and what is mended or refused on the way to a structure."""
