"""Reindexing of an experiment, with or without its UB matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from libtbx.utils import Sorry

from edtbx.arrays import FloatArray, IntArray
from edtbx.cell import transformed_cell
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.geometry import polar_factors, ub_matrix
from edtbx.measurement.selection import swept_rows
from edtbx_cctbx.boundary import expect_experiment
from edtbx_cctbx.indexing.operators import index_matrix, operator_text, transform_indices


def reindexed(experiment: Experiment, operator: str) -> Experiment:
    """The experiment with other indices, h' = M h for ``operator`` as cctbx writes it ("-h,-k,-l", "k,h,-l").

    Whether the UB matrix goes with them, UB' = UB·M⁻¹, is told from the data: it stays where more of the rows come near
    the Ewald sphere so, because then the indices did not belong to it. A note says which was done.

    Raises
    ------
    Sorry
        It is no operator, makes indices that are no whole numbers, or would turn a right-handed UB left-handed.
    """
    expect_experiment(experiment)
    matrix = index_matrix(operator)
    if np.allclose(matrix, np.eye(3)):
        return experiment
    text = operator_text(matrix)
    hkl = transform_indices(experiment.reflections.hkl, matrix)
    alone = with_indices(experiment, hkl)
    before = swept_rows(experiment).mean()
    after = swept_rows(alone).mean() if abs(abs(np.linalg.det(matrix)) - 1.0) < 1e-6 else 0.0
    shares = f"{before:.0%} of the rows pass the Ewald sphere with the indices of the file, {after:.0%} with these"
    if after > before:
        note = f"reindexed by {text}: the indices alone, the UB matrix stays, because {shares}"
        return replace(alone, notes=(*experiment.notes, note))
    if np.linalg.det(matrix) < 0.0:
        raise Sorry(
            f"{experiment.source or 'the data'}: input.reindex={text} would turn the right-handed UB matrix left-handed, "
            f"and the indices alone fit worse so ({shares}): leave it out; model.invert=True takes the other hand of the "
            "model"
        )
    note = f"reindexed by {text}: indices and UB matrix together, because they belong together ({shares})"
    return replace(with_axes(experiment, matrix), notes=(*experiment.notes, note))


def with_indices(experiment: Experiment, hkl: IntArray) -> Experiment:
    """The experiment with other indices (M, 3) of its rows and nothing else changed."""
    return replace(experiment, reflections=replace(experiment.reflections, hkl=hkl))


def with_axes(experiment: Experiment, matrix: FloatArray) -> Experiment:
    """The experiment with other axes: indices h' = M h, UB' = UB·M⁻¹, and the cell that goes with them."""
    cell = transformed_cell(experiment.cell, matrix)
    inverse = np.linalg.inv(matrix)
    of_file = experiment.measured_cell
    return replace(
        with_indices(experiment, transform_indices(experiment.reflections.hkl, matrix)),
        cell=cell,
        orientation=polar_factors(ub_matrix(experiment) @ inverse, cell)[0],
        ub=None if experiment.ub is None else experiment.ub @ inverse,
        measured_cell=None if of_file is None else transformed_cell(of_file, matrix),
    )
