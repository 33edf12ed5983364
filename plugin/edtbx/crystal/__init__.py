"""The crystal, learnt from its own data."""
