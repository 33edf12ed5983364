"""Observed reflections that the lattice centring of a model forbids."""

from __future__ import annotations

import numpy as np
from cctbx import sgtbx, xray
from libtbx.utils import Sorry

from edtbx.arrays import BoolArray, IntArray
from edtbx.measurement.experiment import Experiment
from edtbx_cctbx.arrays import translation_vector

_FEWEST, _SHARE = 10, 0.5


def check_centring(experiment: Experiment, structure: xray.structure) -> None:
    """Refuse a model with a centring that the data do not have.

    No scattering, however often repeated, reaches a reflection that the centring forbids; screw axes and glide planes
    forbid less.

    Raises
    ------
    Sorry
        Reflections that the centring forbids are observed (I > 3σ(I)) at least half as often as the others.
    """
    rows, group = experiment.reflections, structure.space_group()
    forbidden = forbidden_by_centring(rows.hkl, group)
    observed = rows.observed
    number = int((forbidden & observed).sum())
    if number < _FEWEST:
        return
    share = number / forbidden.sum()
    allowed = observed[~forbidden].mean() if np.any(~forbidden) else 0.0
    if share < _SHARE * allowed:
        return
    raise Sorry(
        f"{experiment.source or 'the data'}: of {forbidden.sum()} reflections that the centring of the model "
        f"({group.info()}) forbids, {number} are observed ({share:.0%}; of the others {allowed:.0%}): the model has another "
        "lattice than the data: correct its space group, or give the model of these data"
    )


def forbidden_by_centring(hkl: IntArray, group: sgtbx.space_group) -> BoolArray:
    """Which indices (M, 3) are absent by the centring of a space group, (M,)."""
    vectors = np.array([translation_vector(operation) for operation in group.all_ops() if operation.r().is_unit_mx()])
    phases = hkl @ vectors.T
    return np.asarray(np.any(np.abs(phases - np.rint(phases)) > 1e-6, axis=1))
