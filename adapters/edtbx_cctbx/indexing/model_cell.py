"""Replacement of the cell of the data by that of the model, with checks of both against the UB matrix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry

from edtbx.arrays import FloatArray
from edtbx.cell import CELL_TOLERANCE, Cell, CellMisfit, angle_tolerance, cell_of_ub, cell_text, stretch_tolerance
from edtbx.checks import expect_number
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.geometry import measured_ub, polar_factors, with_cell
from edtbx_cctbx.boundary import expect_any_structure, expect_experiment
from edtbx_cctbx.indexing.operators import operator_text, operators_to_model
from edtbx_cctbx.indexing.scan_geometry import with_geometry_of_data

_NOTED_LENGTH, _NOTED_ANGLE, _NOTED_STRETCH = 0.001, 0.05, 0.002

_SAME_SWEEP = 0.01
"""Difference of cells up to which excitation errors tell the same of the scan: what the whole file told of it stands, where
some of its frames might tell something else."""


def check_cell(xray_structure: xray.structure, experiment: Experiment, tolerance: float = CELL_TOLERANCE) -> FloatArray:
    """Singular values (3,) of UB·B⁻¹ for the cell of the model, checked against cell and UB matrix of the data.

    Raises
    ------
    Sorry
        They are further apart than the tolerance (0.06: 6 % in a length, and 2.5° in an angle); another setting of the
        same lattice is named with the operator that leads from one to the other.
    """
    model, of_file = _cell(xray_structure), experiment.measured_cell or experiment.cell
    ub = measured_ub(experiment)
    of_ub = cell_of_ub(ub)
    try:
        _, values = polar_factors(ub, model)
    except ValueError as error:
        raise Sorry(f"the cell of the model, {cell_text(model)}, and the data: {error}") from error
    stretch = float(np.max(np.abs(np.log(values))))
    misfits = [CellMisfit.between(cell, model) for cell in (of_file, of_ub)]
    if all(misfit.within(tolerance) for misfit in misfits) and stretch <= stretch_tolerance(tolerance):
        return values
    named, cell, misfit = ("data", of_file, misfits[0])
    if misfit.within(tolerance):
        named, cell, misfit = ("UB matrix", of_ub, misfits[1])
    far = (
        f"the cells of model and {named}, {cell_text(model)} and {cell_text(cell)}, differ by {misfit}"
        f" (singular values of UB·B⁻¹: {_values_text(values)})"
    )
    settings = operators_to_model(
        of_file, model, xray_structure.space_group(), min(tolerance, CELL_TOLERANCE), experiment.reflections.hkl
    )
    if settings and not any(np.allclose(setting, np.eye(3)) for setting in settings):
        raise Sorry(
            f"{far}: the data are indexed in another setting of this lattice; "
            f"input.reindex={operator_text(settings[0])} brings them to that of the model"
        )
    needed = 0.01 * np.ceil(100.0 * _tolerance_needed(misfits, stretch))
    remedy = (
        f"if it is the same crystal all the same, input.cell_tolerance={needed:.2f} goes on" if needed <= 0.3 else ""
    )
    raise Sorry(
        f"{far}, more than {tolerance:.0%} and {angle_tolerance(tolerance):.1f}°: is this the model of these data? Index "
        f"them in the cell of the model{'; ' if remedy else ''}{remedy}"
    )


def with_model_cell(
    experiment: Experiment, xray_structure: xray.structure, tolerance: float = CELL_TOLERANCE
) -> Experiment:
    """The experiment with the cell of the model, and the rotation nearest to its UB matrix for that cell.

    A note tells how far they are apart, where it is worth a note; then the scan geometry is decided once more, which is told
    from distances to the Ewald sphere. An experiment that has this cell already is returned as
    it is.

    Raises
    ------
    Sorry
        As :func:`check_cell`.
    TypeError
        An argument is of the wrong kind.
    """
    cell = _cell(expect_any_structure(xray_structure))
    expect_experiment(experiment)
    expect_number(tolerance, "the tolerance")
    if experiment.measured_cell is not None and experiment.cell == cell:
        return experiment
    values = check_cell(xray_structure, experiment, tolerance)
    changed = with_cell(experiment, cell)
    notes = _notes(changed, values)
    if not CellMisfit.between(experiment.cell, cell).within(_SAME_SWEEP) and experiment.header_geometry is not None:
        changed = with_geometry_of_data(changed, experiment.header_geometry)
    return replace(changed, notes=(*changed.notes, *notes))


def cell_report(experiment: Experiment) -> dict[str, Any]:
    """Cells of model and data, which of them is used, and singular values of UB·B⁻¹, for output files."""
    return {
        "used": "data" if experiment.measured_cell is None else "model",
        "model": None if experiment.measured_cell is None else experiment.cell,
        "data": experiment.measured_cell or experiment.cell,
        "singular_values": polar_factors(measured_ub(experiment), experiment.cell)[1],
    }


def _notes(experiment: Experiment, values: FloatArray) -> list[str]:
    of_file = experiment.measured_cell or experiment.cell
    misfit = CellMisfit.between(of_file, experiment.cell)
    notes = []
    if misfit.length > _NOTED_LENGTH or misfit.angle > _NOTED_ANGLE:
        notes.append(f"cell: that of the model; the data have {cell_text(of_file)}, {misfit} off")
    if np.max(np.abs(values - 1.0)) > _NOTED_STRETCH:
        common, spread = float(np.prod(values) ** (1.0 / 3.0)) - 1.0, values[0] / values[2] - 1.0
        means = []
        if abs(common) >= _NOTED_LENGTH:
            means.append(
                f"reciprocal lengths are {abs(common):.1%} too {'long' if common > 0.0 else 'short'} (camera length)"
            )
        if spread >= _NOTED_LENGTH:
            means.append(f"they differ by {spread:.1%} between directions (elliptical distortion, drift)")
        notes.append(
            f"the UB matrix against the cell of the model: singular values of UB·B⁻¹ {_values_text(values)}: "
            f"{', '.join(means)}; the orientation is what remains without that (polar decomposition)"
        )
    return notes


def _tolerance_needed(misfits: list[CellMisfit], stretch: float) -> float:
    """The least tolerance that lets cells and stretch pass."""
    degrees = angle_tolerance(1.0)
    by_cells = max(max(misfit.length, misfit.angle / degrees) for misfit in misfits)
    tried = np.arange(0.0, 1.0, 0.001)
    by_stretch = next((t for t in tried if stretch <= stretch_tolerance(float(t))), 1.0)
    return float(max(by_cells, by_stretch)) + 1e-4


def _values_text(values: FloatArray) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _cell(xray_structure: xray.structure) -> Cell:
    a, b, c, alpha, beta, gamma = (float(x) for x in xray_structure.unit_cell().parameters())
    return a, b, c, alpha, beta, gamma
