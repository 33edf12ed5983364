"""Diagnosis of wrong indexing, from the rows that pass the Ewald sphere and from an estimate of R(obs).

Two mistakes are looked for. The indices alone are wrong (a program that confuses hands negates them): then the right
operator takes more rows to the Ewald sphere. Or indices and UB matrix agree, but the lattice is more symmetric than the
crystal and was taken in the wrong one of several equivalent ways: then geometry says nothing, and R does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry, null_out

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.cell import CELL_TOLERANCE
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.geometry import with_cell
from edtbx.measurement.selection import SelectionRules, estimated_r, select_reflections, swept_rows
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.indexing.operators import distinct_operators, operator_text, operators_to_model
from edtbx_cctbx.indexing.reindexing import with_axes, with_indices
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import miller_set

HOPELESS = 0.45
"""Kinematical R(obs) above which data and model disagree: 0.1 to 0.25 is usual, 0.39 and more with wrong indices."""

_HARDLY_ANY = 0.1
_MORE_ROWS, _BETTER_R, _GOOD_R = 1.1, 0.75, 0.15
_SIGNIFICANT = 4.0
_FEWEST_ROWS = 30
_DOUBTFUL = 0.5
"""Part of the rows that pass the Ewald sphere below which any order of the indices is tried."""
_MOST_ROWS = 20000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trial:
    """An indexing: its operator (3, 3), the rows (M,) that pass the Ewald sphere, and an estimate of R(obs)."""

    operator: FloatArray
    swept: BoolArray
    r: float

    def __str__(self) -> str:
        estimate = f", R about {self.r:.2f}" if np.isfinite(self.r) else ""
        return f"{self.swept.mean():.0%} of the rows pass the Ewald sphere{estimate}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Diagnosis:
    """The indexing of the data and the others tried: ``alone`` with the indices changed, ``together`` with the UB matrix."""

    as_indexed: Trial
    alone: tuple[Trial, ...]
    together: tuple[Trial, ...]

    @property
    def advice(self) -> str | None:
        """The indexing that fits better and the option that chooses it; None where none does."""
        before = f"as indexed {self.as_indexed}"
        best = max(self.alone, key=lambda trial: int(trial.swept.sum()), default=None)
        if best is not None and _takes_more(best, self.as_indexed):
            text = operator_text(best.operator)
            hand = " (a program has confused hands)" if np.allclose(best.operator, -np.eye(3)) else ""
            return f"{before}; with {text} {best}{hand}: input.reindex={text}"
        best = min(self.together, key=lambda trial: trial.r, default=None)
        if best is not None and (_fits_better(best, self.as_indexed) or _takes_more(best, self.as_indexed)):
            text = operator_text(best.operator)
            return f"{before}; with {text}, another way to index this lattice, {best}: input.reindex={text}"
        return None

    @property
    def doubt(self) -> str | None:
        """A warning that few rows pass the Ewald sphere with any indexing tried; None otherwise."""
        part = self.as_indexed.swept.mean()
        if self.advice is not None or part > _DOUBTFUL / 2.0:
            return None
        return (
            f"only {part:.0%} of the rows pass the Ewald sphere on their frames, and no other indexing changes that: do "
            "indices, UB matrix and angles of the frames belong together?"
        )


def diagnose(experiment: Experiment, structure: xray.structure, tolerance: float = CELL_TOLERANCE) -> Diagnosis:
    """Diagnosis of an experiment with the cell of the model, with −h and the rotations of the lattice tried.

    Large data are reduced to some of the frames. It takes a second or two: R is an estimate in closed form.
    """
    set_electron_form_factors(structure, log=null_out())
    group = structure.space_group()
    experiment = _some_frames(experiment, structure)
    hkl = experiment.reflections.hkl
    cell = experiment.measured_cell or experiment.cell
    operators = [m for m in operators_to_model(cell, experiment.cell, group, tolerance, hkl) if not _is_identity(m)]
    as_indexed = _trial(experiment, structure, np.eye(3))
    changed = [-np.eye(3), *(sign * m for m in operators for sign in (1.0, -1.0))]
    if as_indexed.swept.mean() < _DOUBTFUL:
        changed += _signed_permutations()
    swept = [swept_rows(with_indices(experiment, _indices(hkl, m))) for m in changed]
    most = max(range(len(changed)), key=lambda n: int(swept[n].sum()))
    alone = _trial(with_indices(experiment, _indices(hkl, changed[most])), structure, changed[most])
    distinct = distinct_operators([np.eye(3), *operators], group)[1:]
    turned = [with_cell(with_axes(experiment, m), experiment.cell) for m in distinct]
    together = tuple(_trial(reindexed_data, structure, m) for reindexed_data, m in zip(turned, distinct, strict=True))
    return Diagnosis(as_indexed=as_indexed, alone=(alone,), together=tuple(t for t in together if np.isfinite(t.r)))


def check_indexing(experiment: Experiment, structure: xray.structure, tolerance: float = CELL_TOLERANCE) -> Experiment:
    """The experiment, with a warning where another indexing fits better.

    Raises
    ------
    Sorry
        Another indexing fits better, and as indexed hardly a row passes the selection.
    """
    diagnosis = diagnose(experiment, structure, tolerance)
    advice = diagnosis.advice
    if advice is None:
        doubts = (diagnosis.doubt,) if diagnosis.doubt else ()
        return replace(experiment, warnings=(*experiment.warnings, *doubts)) if doubts else experiment
    used = select_reflections(experiment, SelectionRules()).used
    if used.mean() < _HARDLY_ANY:
        raise Sorry(
            f"{experiment.source or 'the data'}: hardly any reflection is left after selection ({used.sum()} of "
            f"{len(used)}), because the indices do not belong to the UB matrix: {advice}"
        )
    return replace(experiment, warnings=(*experiment.warnings, f"another indexing fits better: {advice}"))


def warn_if_hopeless(experiment: Experiment, structure: xray.structure, r_obs: float) -> Experiment:
    """The experiment, with a warning where a kinematical R(obs) is that of a wrong indexing or of a wrong model."""
    if not r_obs > HOPELESS or experiment.warnings:
        return experiment
    advice = diagnose(experiment, structure).advice
    reason = advice or (
        "no other indexing that the lattice allows fits better; is it the right model, its space group, and its origin?"
    )
    return replace(experiment, warnings=(f"kinematical R(obs) is {r_obs:.2f}, model and data do not agree: {reason}",))


def _takes_more(candidate: Trial, reference: Trial) -> bool:
    """Whether significantly more rows pass the Ewald sphere, and a tenth more at least."""
    gained, lost = (
        int(np.sum(a & ~b)) for a, b in ((candidate.swept, reference.swept), (reference.swept, candidate.swept))
    )
    more = candidate.swept.sum() > _MORE_ROWS * reference.swept.sum()
    return bool(more and gained - lost > _SIGNIFICANT * np.sqrt(gained + lost))


def _fits_better(candidate: Trial, reference: Trial) -> bool:
    return bool(reference.r > _GOOD_R and candidate.r < _BETTER_R * reference.r)


def _trial(experiment: Experiment, structure: xray.structure, operator: FloatArray) -> Trial:
    """Rows that pass the Ewald sphere and estimated R(obs) of an experiment that the operator has reindexed."""
    used = select_reflections(experiment, SelectionRules()).used
    rows = experiment.reflections
    observed = used & rows.observed
    r = float("nan")
    if observed.sum() >= _FEWEST_ROWS:
        f_squared = np.zeros(len(rows))
        f_squared[observed] = _f_squared(structure, rows.hkl[observed])
        r = estimated_r(experiment, f_squared, observed)
    return Trial(operator=operator, swept=swept_rows(experiment), r=r)


def _f_squared(structure: xray.structure, hkl: IntArray) -> FloatArray:
    unique, place = np.unique(hkl, axis=0, return_inverse=True)
    indices = miller_set(structure, unique)
    f_calc = indices.structure_factors_from_scatterers(structure, algorithm="direct", cos_sin_table=False).f_calc()
    values = np.abs(to_numpy(f_calc.data())) ** 2
    values[to_numpy(indices.sys_absent_flags().data())] = 0.0
    return np.asarray(values[place.ravel()])


def _some_frames(experiment: Experiment, structure: xray.structure) -> Experiment:
    """The experiment reduced to evenly spread frames, few enough for a quick diagnosis."""
    per_row = len(structure.scatterers()) * structure.space_group().order_z()
    most = min(_MOST_ROWS, max(4e7 / per_row, 1000.0))
    every = int(np.ceil(len(experiment.reflections) / most))
    ids = [frame.id for frame in experiment.frames]
    return experiment if every < 2 else experiment.select_frames(ids[::every])


def _indices(hkl: IntArray, operator: FloatArray) -> IntArray:
    return np.asarray(np.rint(hkl @ operator.T), dtype=np.int64)


def _signed_permutations() -> list[FloatArray]:
    """All signed permutations (3, 3) of the axes but the identity."""
    signs = list(itertools.product((1.0, -1.0), repeat=3))
    orders = [np.eye(3)[list(order)] for order in itertools.permutations(range(3))]
    return [np.diag(sign) @ order for order in orders for sign in signs if not _is_identity(np.diag(sign) @ order)]


def _is_identity(operator: FloatArray) -> bool:
    return bool(np.allclose(operator, np.eye(3)))
