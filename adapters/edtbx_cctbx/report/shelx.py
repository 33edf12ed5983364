"""The structure of a comparison as a SHELX .res file, with more digits than a CIF with s.u.s has."""

from __future__ import annotations

import textwrap

from iotbx.shelx import writer

from edtbx_cctbx.refinement.results import Comparison


def structure_res(comparison: Comparison, name: str) -> str:
    """The structure of the result; occupancies are fixed, and labels new where they are none for SHELX or not unique."""
    structure = comparison.result.structure.deep_copy_scatterers()
    renamed = structure.make_scatterer_labels_shelx_compatible_in_place()
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
    notes = [f"{short} is {label}" for label, short in renamed if short != label.upper()]
    if comparison.interruption is not None:
        notes = [*textwrap.wrap(comparison.interruption, 70), *notes]
    said = "".join(f"REM {note}\n" for note in notes)
    whole = "".join(lines)
    end = whole.rindex("HKLF 4")
    return f"{whole[:end]}{said}{whole[end:]}END\n"
