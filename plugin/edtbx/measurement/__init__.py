"""The measurement: beam, frames and reflections of an experiment, where they lie, which are used, and R factors."""
