"""The command-line programs and their parameters."""
