"""The structure of a comparison as a SHELX .res file, with more digits than a CIF with s.u.s has."""

from __future__ import annotations

import textwrap
from collections import Counter

from cctbx import xray
from iotbx.shelx import writer

from edtbx_cctbx.refinement.results import Comparison

_LONGEST = 4
"""Letters of a label in SHELX."""


def structure_res(comparison: Comparison, name: str) -> str:
    """The structure of the result; occupancies are fixed, and labels new where they are long or not unique."""
    structure = comparison.result.structure.deep_copy_scatterers()
    renamed = _with_short_labels(structure)
    for scatterer in structure.scatterers():
        scatterer.flags.set_grad_occupancy(False)
    lines = writer.generator(
        structure,
        title=name,
        wavelength=comparison.experiment.wavelength,
        full_matrix_least_squares_cycles=0,
        conjugate_gradient_least_squares_cycles=None,
        overall_scale_factor=1.0,
        sort_scatterers=False,
    )
    notes = [f"{short} is {label}" for short, label in renamed]
    if comparison.interruption is not None:
        notes = [*textwrap.wrap(comparison.interruption, 70), *notes]
    said = "".join(f"REM {note}\n" for note in notes)
    whole = "".join(lines)
    end = whole.rindex("HKLF 4")
    return f"{whole[:end]}{said}{whole[end:]}END\n"


def _with_short_labels(structure: xray.structure) -> list[tuple[str, str]]:
    """Give short labels, in place, where they are needed; the new and the old ones, if so."""
    labels = [scatterer.label for scatterer in structure.scatterers()]
    if len(set(labels)) == len(labels) and all(0 < len(label) <= _LONGEST for label in labels):
        return []
    count: Counter[str] = Counter()
    for scatterer in structure.scatterers():
        element = scatterer.element_symbol()
        count[element] += 1
        scatterer.label = f"{element}{count[element]}"
    return [(scatterer.label, label) for scatterer, label in zip(structure.scatterers(), labels, strict=True)]
