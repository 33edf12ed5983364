"""Arguments, options, streams and progress of the programs."""
