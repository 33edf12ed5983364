"""Drop-in refinement targets for cctbx: kinematical and dynamical, with one signature.

A target obeys the functor protocol of ``cctbx.xray.minimization.lbfgs``: ``f_obs()`` names the structure factors it wants,
``target(f_calc, compute_derivatives)`` returns value and derivatives. What the measurement adds to a structure (scales,
thickness and its law, orientation spread and centres) lives in ``target.nuisance`` and stays put during a minimisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cctbx import miller, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry, null_out

from edtbx.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from edtbx.execution.executors import frame_executor
from edtbx.execution.memory import expect_room_for
from edtbx.execution.progress import Progress, no_progress
from edtbx.experiment import Experiment
from edtbx.fitting.nuisance_fit import NuisanceBounds, fit_nuisance
from edtbx.geometry import orthogonalisation_matrix
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx.intensities.sampling import G_MAX_MARGIN, Sampling
from edtbx.selection import Selection, SelectionRules, select_reflections
from edtbx.solvers.registry import installed_solvers
from edtbx.statistics import Statistics, statistics
from edtbx.summary import Summarised
from edtbx_cctbx.arrays import from_numpy, to_numpy
from edtbx_cctbx.boundary import (
    described,
    expect_experiment,
    expect_intensities,
    expect_kind,
    expect_number,
    expect_same_crystal,
    expect_structure,
    expect_structure_factors,
)
from edtbx_cctbx.indexing.absences import check_centring
from edtbx_cctbx.indexing.diagnosis import Diagnosis, diagnose
from edtbx_cctbx.indexing.model_cell import with_model_cell
from edtbx_cctbx.structure.form_factors import ensure_electron_form_factors, set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import Expansion, g_vectors, indices_of, miller_set, warn_if_by_fft


@dataclass(frozen=True, slots=True, eq=False)
class TargetResult:
    """What the minimiser asks of one evaluation."""

    value: float
    gradients: flex.complex_double | None
    scale: float

    def target(self) -> float:
        """The target."""
        return self.value

    def derivatives(self) -> flex.complex_double:
        """∂T/∂A + i ∂T/∂B for every structure factor of ``f_obs()``."""
        return self.gradients

    def scale_factor(self) -> float:
        """Mean scale of the frames."""
        return self.scale


class DynamicalTarget(Summarised):
    """T = Σ w (I_obs − k I_calc)²/Σ w I_obs² over the rows of an experiment, negative intensities included.

    Parameters
    ----------
    experiment
        What :func:`edtbx_cctbx.read_experiment` returned; it takes the cell of the model.
    xray_structure
        The model at the start: its symmetry counts, and the nuisance parameters are fitted to it. Electron form
        factors are put in where others stand.
    solver
        Name of a registered solver.
    thickness, spread
        Greatest thickness in Å and σ of the orientation spread in radians; None fits them.
    choices
        What else of the nuisance parameters may be fitted, and in which bounds.
    rules, sampling, g_max
        Rows used, fineness of the sampling, and reach of the beams in Å⁻¹ (None: a little beyond the data).
    nproc
        Threads, one frame each at a time; None takes all cores.
    executor
        What takes the frames in place of threads, one each: the workers of a ``ProcessPoolExecutor`` (method spawn), of a
        Dask client (``client.get_executor(pure=False)``) or of any other ``concurrent.futures.Executor``. Whoever made it
        shuts it down. A copy (``copy.deepcopy``) or a pickle of the target has threads of its own in its place.

    Raises
    ------
    TypeError, ValueError, Sorry
        An argument is of the wrong kind or out of range, or no reflection is left.
    TooLarge
        The memory does not hold what it takes.

    Warns
    -----
    InexactStructureFactors
        The first structure factors that the target is given come from the FFT, the default of
        ``xray.minimization.lbfgs``: pass it ``structure_factor_algorithm="direct", cos_sin_table=False``, or call
        :func:`edtbx_cctbx.minimise_with_lbfgs`, which does. Tables of sines and cosines go unnoticed (errors of 0.4 %).
    """

    default_solver = "auto"

    def __init__(
        self,
        experiment: Experiment,
        xray_structure: xray.structure,
        *,
        solver: str | None = None,
        thickness: float | None = None,
        spread: float | None = None,
        choices: NuisanceBounds | None = None,
        rules: SelectionRules | None = None,
        sampling: Sampling | None = None,
        g_max: float | None = None,
        nproc: int | None = None,
        executor: Executor | None = None,
        progress: Progress[FrameCube] = no_progress,
        nuisance: Nuisance | None = None,
    ) -> None:
        self.solver_name = expect_kind(solver or self.default_solver, str, "solver")
        self.rules = expect_kind(SelectionRules() if rules is None else rules, SelectionRules, "rules")
        self._structure_at_hand: xray.structure | None = xray_structure
        sampling = expect_kind(Sampling() if sampling is None else sampling, Sampling, "sampling")
        choices = expect_kind(NuisanceBounds() if choices is None else choices, NuisanceBounds, "choices")
        if nuisance is not None:
            expect_kind(nuisance, Nuisance, "nuisance")
        for name, value in (("thickness", thickness), ("spread", spread), ("g_max", g_max)):
            if value is not None:
                expect_number(value, name)
        if g_max is not None and not 0.0 < g_max < math.inf:
            raise Sorry(f"g_max must be > 0 1/Å, got {g_max:g}")
        try:
            set_electron_form_factors(expect_structure(xray_structure), log=null_out())
            self.experiment = with_model_cell(expect_experiment(experiment), xray_structure)
            self.choices = replace(choices, thickness=thickness, sigma=spread)
            backend = installed_solvers().create(self.solver_name)
            executor = frame_executor(executor, nproc)
            self.selection = select_rows(self.experiment, xray_structure, self.rules)
            length = _largest_g(self.experiment, self.selection.used)
            self.g_max = max(length + G_MAX_MARGIN if g_max is None else g_max, length)
            expect_room_for(self.experiment, self.g_max, sampling.accuracy.s_max)
            vectors = g_vectors(xray_structure, self.g_max)
            self.expansion = Expansion.of(xray_structure, vectors)
            self._origin = next(n for n, h in enumerate(self.expansion.unique.indices()) if h == (0, 0, 0))
            self._f_000 = float(self.structure_factors(xray_structure)[vectors.find(np.zeros(3, dtype=np.int64))].real)
            self.forward = ForwardModel(
                self.experiment,
                self.selection,
                vectors,
                sampling,
                backend,
                executor,
                f_000=self._f_000,
            )
        except ValueError as error:
            raise Sorry(str(error)) from error
        number = len(self.forward.frames)
        if nuisance is not None and len(nuisance.centres) not in (0, number):
            raise ValueError(
                f"nuisance parameters of {len(nuisance.centres)} frames given for {number} frames with reflections: leave "
                "them out to have them fitted"
            )
        self.offsets: Sequence[FloatArray] | None = None
        self.nuisance: Nuisance = nuisance or self.fit_nuisance(xray_structure, progress)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._structure_at_hand is not None:
            ensure_electron_form_factors(self._structure_at_hand)

    def __repr__(self) -> str:
        number = len(self.forward.frames)
        return f"<{type(self).__name__} of {number} frames, {len(self.rows)} reflections, solver {self.solver_name}>"

    def summary_lines(self) -> list[str]:
        """Solver, frames, reflections, and what the crystal is like."""
        forward, structure_factors = self.forward, self.f_obs()
        return [
            f"Target: {type(self).__name__}, solver {self.solver_name}",
            f"Frames: {len(forward.frames)}, {forward.beams_per_frame:.0f} beams and {forward.waves_per_frame:.0f} "
            "orientations each",
            f"Reflections: {len(self.rows)} of {len(self.experiment.reflections)}",
            f"Structure factors: {structure_factors.size()} in {structure_factors.space_group_info()}, beams out to "
            f"{self.g_max:.3f} 1/Å",
            f"Crystal: {self.nuisance.describe()}",
        ]

    def accepted(self, xray_structure: xray.structure) -> xray.structure:
        """The structure, with electron form factors, if it is one of this target's crystal; its atoms may be others.

        Raises
        ------
        TypeError, ValueError
            It is none, has no atoms, or is of another cell or space group.
        """
        structure = expect_same_crystal(xray_structure, self.expansion.unique)
        ensure_electron_form_factors(structure)
        return structure

    def resampled(self, sampling: Sampling, places: Sequence[int] | None = None) -> DynamicalTarget:
        """The same target at another level of sampling, of all frames or of some, y nodes counted from their centres."""
        other = copy(self)
        if places is not None:
            other.nuisance = self.nuisance.at(places)
        number = len(self.forward.frames) if places is None else len(places)
        bases = np.zeros(number) if math.isinf(sampling.centre_reach) else other.nuisance.centres
        other.forward = self.forward.resampled(sampling, places, bases)
        other.offsets = None
        return other

    def f_obs(self) -> miller.set:
        """The structure factors that the target wants: the asymmetric unit of all g that couple two beams."""
        return self.expansion.unique

    def __call__(self, f_calc: miller.array, compute_derivatives: bool) -> TargetResult:
        """The target for structure factors in the order of ``f_obs()``, at the nuisance parameters as they stand."""
        data = expect_structure_factors(f_calc, self.expansion.unique)
        if self._structure_at_hand is not None:  # on the first call only: atoms may change afterwards
            structure, self._structure_at_hand = self._structure_at_hand, None
            warn_if_by_fft(data[self._origin].real, structure, self._f_000)
        f = self.expansion.expand(data)
        scale = float(np.mean(self.nuisance.scales))
        if not compute_derivatives:
            return TargetResult(self.forward.target(f, self.nuisance, self.offsets), None, scale)
        value, gradient = self.forward.target_and_gradient(f, self.nuisance, self.offsets)
        return TargetResult(value, from_numpy(self.expansion.collect(gradient)), scale)

    def structure_factors(self, xray_structure: xray.structure) -> ComplexArray:
        """F (G,) in Å of a structure on all g vectors of the forward model."""
        return self.expansion.structure_factors(self.accepted(xray_structure))

    def cubes(self, xray_structure: xray.structure, progress: Progress[FrameCube] = no_progress) -> list[FrameCube]:
        """Computed beside measured intensities of every frame, over spread and thickness."""
        return self.forward.cubes(self.structure_factors(xray_structure), progress)

    def fit_nuisance(self, xray_structure: xray.structure, progress: Progress[FrameCube] = no_progress) -> Nuisance:
        """Fit scales, thickness, law, spread and centres to a structure; the target uses them from now on."""
        self.nuisance = fit_nuisance(self.cubes(xray_structure, progress), self.forward.grid, self.choices)
        return self.nuisance

    def i_calc(self, xray_structure: xray.structure) -> FloatArray:
        """Scaled I_calc of the used rows, in the order of ``rows``."""
        unscaled = self.forward.intensities(self.structure_factors(xray_structure), self.nuisance)
        return np.concatenate([k * i for k, i in zip(self.nuisance.scales, unscaled, strict=True)])

    @property
    def rows(self) -> IntArray:
        """Which rows of the experiment are used, in the order of the frames."""
        return self.forward.rows

    @property
    def fo_sq(self) -> miller.array:
        """Measured intensities and s.u.s of the used rows, for least squares."""
        measured = self.experiment.reflections.select(self.rows)
        intensities = miller_set(self.expansion.unique, measured.hkl).array(
            data=from_numpy(measured.intensity), sigmas=from_numpy(measured.sigma)
        )
        return intensities.set_observation_type_xray_intensity()

    def statistics(self, i_calc: FloatArray) -> Statistics:
        """R factors of scaled intensities (M,) in the order of ``rows``."""
        i_calc = expect_intensities(i_calc, len(self.rows))
        measured = self.experiment.reflections.select(self.rows)
        unique = unique_numbers(self.expansion.unique, measured.hkl)
        return statistics(measured.intensity, measured.sigma, i_calc, measured.frame_id, unique)


class KinematicalTarget(DynamicalTarget):
    """The same target with single scattering, for a fair comparison: same rows, same nuisance parameters."""

    default_solver = "kinematical"


def expect_target(value: Any) -> DynamicalTarget:
    """A target.

    Raises
    ------
    TypeError
        It is none.
    """
    if not isinstance(value, DynamicalTarget):
        raise TypeError(f"expected a DynamicalTarget or KinematicalTarget, got {described(value)}")
    return value


def select_rows(experiment: Experiment, xray_structure: xray.structure, rules: SelectionRules) -> Selection:
    """The rows that the rules and the space group leave; `Sorry` where none is left, or the lattice is another."""
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
    """What to do where no row is left."""
    if diagnosis is not None and diagnosis.advice is not None:
        return f"the indices do not belong to these data: {diagnosis.advice}"
    return "relax those rules" if diagnosis is None or diagnosis.doubt is None else diagnosis.doubt


def unique_numbers(symmetry: miller.set, hkl: IntArray) -> IntArray:
    """A number (M,) shared by symmetry equivalents, Friedel mates apart unless the group has a centre."""
    in_asu = indices_of(miller_set(symmetry, hkl).map_to_asu())
    return np.asarray(np.unique(in_asu, axis=0, return_inverse=True)[1]).ravel()


def _largest_g(experiment: Experiment, used: BoolArray) -> float:
    hkl = experiment.reflections.hkl[used]
    return float(np.linalg.norm(hkl @ orthogonalisation_matrix(experiment.cell).T, axis=1).max())
