"""Rotation or precession, decided for an experiment by its intensities, or by its header where these cannot tell."""

from __future__ import annotations

from dataclasses import replace

from edtbx.measurement.experiment import Experiment, ScanGeometry
from edtbx.measurement.scan_geometry import geometry_evidence

_NOTE = "geometry: "


def with_geometry_of_data(experiment: Experiment, named: ScanGeometry | None) -> Experiment:
    """The experiment with the geometry that its intensities show, else the one named in the header, and a note.

    Raises
    ------
    ValueError
        Neither tells.
    """
    shown, evidence = geometry_evidence(experiment)
    decided = shown or named
    if decided is None:
        raise ValueError(f"the header names no scan geometry, and {evidence}: choose rotation or precession yourself")
    notes = [note for note in experiment.notes if not note.startswith(_NOTE)]
    if decided is named:
        notes.append(f"{_NOTE}{decided.value}, by the header; {evidence}")
    else:
        header = "no known geometry" if named is None else named.value
        notes.append(f"{_NOTE}{decided.value}; the header says {header}, but the data decide: {evidence}")
    return replace(experiment, geometry=decided, notes=tuple(notes), header_geometry=named or decided)


def as_asked(experiment: Experiment, geometry: ScanGeometry) -> Experiment:
    """The experiment with a geometry that somebody chose, and a note."""
    note = f"{_NOTE}{geometry.value}, as asked for"
    return replace(experiment, geometry=geometry, notes=(*experiment.notes, note), header_geometry=None)
