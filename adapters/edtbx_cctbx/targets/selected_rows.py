"""Rows of an experiment that take part, and which of them belong together."""

from __future__ import annotations

import numpy as np
from cctbx import miller, xray
from libtbx.utils import Sorry

from edtbx.arrays import IntArray
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.selection import Selection, SelectionRules, select_reflections
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.indexing.absences import check_centring
from edtbx_cctbx.indexing.diagnosis import Diagnosis, diagnose
from edtbx_cctbx.structure.structure_factors import indices_of, miller_set


def select_rows(experiment: Experiment, xray_structure: xray.structure, rules: SelectionRules) -> Selection:
    """Rows that pass the selection rules and are not systematically absent.

    Raises
    ------
    Sorry
        No row is left, or the lattice centring of data and model disagree.
    """
    check_centring(experiment, xray_structure)
    equivalents = miller_set(xray_structure, experiment.reflections.hkl)
    absent = to_numpy(equivalents.sys_absent_flags().data())
    selection = select_reflections(experiment, rules, absent)
    if not selection.used.any():
        counts = ", ".join(f"{number} to {rule}" for rule, number in selection.left_out.items() if number)
        diagnosis = diagnose(experiment, xray_structure) if len(absent) else None
        raise Sorry(
            f"no reflection is left after selection: of {len(absent)} rows fell {counts}; " + _remedy(diagnosis)
        )
    return selection


def _remedy(diagnosis: Diagnosis | None) -> str:
    """Remedy to name when no row is left."""
    if diagnosis is not None and diagnosis.advice is not None:
        return f"the indices do not belong to these data: {diagnosis.advice}"
    return "relax those rules" if diagnosis is None or diagnosis.doubt is None else diagnosis.doubt


def unique_numbers(symmetry: miller.set | xray.structure, hkl: IntArray) -> IntArray:
    """A number (M,) shared by symmetry equivalents, Friedel mates apart unless the group has a centre."""
    return _numbers(symmetry, hkl, mates_apart=True)


def left_out_together(symmetry: miller.set | xray.structure, hkl: IntArray) -> IntArray:
    """A number (M,) shared by what R(free) leaves out together: symmetry equivalents, and Friedel mates, which tell nearly
    as much as the index itself.
    """
    return _numbers(symmetry, hkl, mates_apart=False)


def _numbers(symmetry: miller.set | xray.structure, hkl: IntArray, *, mates_apart: bool) -> IntArray:
    in_asu = indices_of(miller_set(symmetry, hkl, anomalous_flag=mates_apart).map_to_asu())
    return np.asarray(np.unique(in_asu, axis=0, return_inverse=True)[1]).ravel()
