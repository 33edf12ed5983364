"""Refinement by full-matrix least squares: as the model comes, then anisotropic on some of the frames, at last on all.

Fewer frames cost precision only. At a coarse level of sampling a structure adapts to errors of the intensities instead, and
thickness and structure then hold each other in a wrong minimum.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from libtbx.utils import Sorry
from smtbx.refinement.least_squares import mainstream_shelx_weighting

from edtbx.experiment import FloatArray
from edtbx.forward import Sampling
from edtbx.levels import FOR_ROWS, LEVELS, Level
from edtbx.nuisance import Nuisance, fit_nuisance, misfit
from edtbx.thickness import mean_thickness
from edtbx_cctbx.comparison import ProgressFactory, Say, Settings, theory_fit
from edtbx_cctbx.least_squares import crystallographic_ls
from edtbx_cctbx.refinement_model import (
    RefinementModel,
    Schedule,
    allows_anisotropic,
    make_anisotropic,
    usual_shifts,
)
from edtbx_cctbx.results import LeastSquaresFit, TheoryFit
from edtbx_cctbx.target import DynamicalTarget
from edtbx_cctbx.weighting import flat_weighting

_FIRST_CYCLES = 5
"""Most cycles on some of the frames, of the model as it comes and anisotropic each."""

_FIRST_SHIFT = 2.0
"""Shifts in s.u.s that end them: all frames will shift by as much."""

_FEWEST_ROWS = 30
"""Rows for each parameter that some of the frames must have. With a dozen, urea left them for 13 frames' own minimum, R(obs)
0.072 there and 0.079 on all, and all frames had farther to go."""

_ROWS_FOR_MATRIX = 30
"""Rows for each parameter that make the normal matrix: s.u.s come out 2 % too large, as (1 − 1/30)^(−1/2)."""

_FEWEST_FRAMES = 12
"""Atoms move on no fewer frames than these, and half as many make the normal matrix."""

_THICKEST = 3.3
"""Greatest thickness of all laws, in mean thicknesses, when they are compared: 3 for the law ``thin``, and some reserve."""

_LAW_STEPS = 60
"""Thicknesses up to there."""

_LAW_EVERY = 3
"""Every third frame tells whether another law suits better than the one found on all."""

_BETTER = 0.98
"""What is left of the misfit with a law that is worth another round: laws that fit alike would take turns."""

_SETTLED = 0.5
"""Shifts in s.u.s below which weights are chosen again, and losses settled."""

_SMALL = 0.05
"""Steps of fewer s.u.s teach nothing of the curvature: what they change is not far above what rounding does."""

_FAR = 4.0
"""Shifts in s.u.s above which the rows of the design matrix are computed anew; secants make up for smaller ones."""

_LAST = "all frames"

_LARGEST_STEP = 4.0
"""No parameter moves by more than so many usual shifts in a cycle."""

_LEAST_CURVATURE = 0.1
"""Steps that show less than this part of the expected curvature teach nothing."""

_START = 0.02
"""The a of the weights in the first cycles."""


def refine_by_least_squares(
    target: DynamicalTarget,
    model: RefinementModel,
    settings: Settings,
    schedule: Schedule,
    progress: ProgressFactory,
    say: Say,
) -> TheoryFit:
    """Refine a structure, in place, and the nuisance parameters of its target.

    A KeyboardInterrupt leaves both at the last complete cycle.

    Raises
    ------
    Sorry
        The reflections do not determine all parameters.
    """
    began = time.perf_counter()
    run = LeastSquaresRun(target, model, settings, schedule, progress, say)
    run.roughly()
    found = settings.level_for(target, model.structure, target.nuisance)
    fine, ls, shift = run.on_all_frames(found.level)
    return theory_fit(
        fine, model.structure, ls.cubes, found, time.perf_counter() - began, least_squares=_described(ls, shift, model)
    )


@dataclass(slots=True, eq=False)
class LeastSquaresRun:
    """One refinement: the structure of the model and the nuisance parameters of the target move.

    ``scheme`` holds the weights that the next cycles start with, ``correction`` (P, P) what the last ones have shown of
    second derivatives that the normal matrix does not know.
    """

    target: DynamicalTarget
    model: RefinementModel
    settings: Settings
    schedule: Schedule
    progress: ProgressFactory
    say: Say
    scheme: Any = None
    correction: FloatArray | None = None

    def __post_init__(self) -> None:
        chosen = self.schedule.weighting
        self.scheme = mainstream_shelx_weighting(a=_START if chosen is None else chosen, b=0)

    def roughly(self) -> None:
        """All but the cycles on all frames: as the model comes and anisotropic on some of them, the thickness law on all."""
        self.on_some_frames("first")
        self.find_law()
        if allows_anisotropic(self.model.structure, self.target.experiment, self.schedule):
            make_anisotropic(self.model.structure, hydrogen=self.schedule.anisotropic == "all")
            self.on_some_frames("anisotropic")

    def on_some_frames(self, stage: str) -> None:
        """A few cycles on some of the frames, at the coarsest level that is good enough for a result."""
        target, settings = self.target, self.settings
        places = self._some_frames(target, _FEWEST_ROWS, _FEWEST_FRAMES)
        some = target.resampled(settings.sampling(target, LEVELS[0]), places)
        try:
            self._cycles(some, f"{stage}, {len(places)} frames")
        finally:
            _take_over(target, some.nuisance, places)

    def find_law(self) -> None:
        """The thickness law, thickness and spread that suit the structure best."""
        target = self.target
        target.nuisance = target.resampled(self._over_all_thicknesses()).fit_nuisance(self.model.structure)

    def another_law(self, nuisance: Nuisance) -> bool:
        """Whether another law suits a third of the frames clearly better; if so, the target takes it."""
        target = self.target
        places = list(range(0, len(target.forward.frames), _LAW_EVERY))
        target.nuisance = nuisance
        some = target.resampled(self._over_all_thicknesses(), places)
        grid, cubes = some.forward.grid, some.cubes(self.model.structure)
        best = fit_nuisance(cubes, grid, target.choices)
        if best.shape == nuisance.shape:
            return False
        same = fit_nuisance(cubes, grid, replace(target.choices, shapes=(nuisance.shape,)))
        if misfit(best, grid, cubes) > _BETTER * misfit(same, grid, cubes):
            return False
        _take_over(target, best, places)
        return True

    def _over_all_thicknesses(self) -> Sampling:
        target, settings = self.target, self.settings
        mean = mean_thickness(target.nuisance.shape, target.nuisance.thickness)
        thickest = _THICKEST * mean if settings.thickness is None else 1.2 * settings.thickness
        return replace(
            settings.sampling(target, LEVELS[0]),
            thickness_max=thickest,
            thickness_step=thickest / _LAW_STEPS,
        )

    def on_all_frames(self, level: Level) -> tuple[DynamicalTarget, crystallographic_ls, float]:
        """All cycles, the law compared once more when the structure has settled: the fine target, and how they ended."""
        target = self.target
        fine = target.resampled(self.settings.sampling(target, level))
        changed = False

        def law_changes() -> bool:
            nonlocal changed
            changed = self.another_law(fine.nuisance)
            return changed

        try:
            ls, shift = self._cycles(fine, _LAST, law_changes)
            if changed:
                self.say(f"{target.solver_name}: another thickness law, {target.nuisance.shape}, now suits better")
                fine = target.resampled(self.settings.sampling(target, level))
                ls, shift = self._cycles(fine, _LAST)
        finally:
            target.nuisance = fine.nuisance
        return fine, ls, shift

    def _rows_from(self, target: DynamicalTarget) -> DynamicalTarget:
        """Frames enough for a normal matrix, coarsely sampled."""
        if getattr(target.forward.solver, "approximation", None) is not None:
            return target
        settings, places = self.settings, self._some_frames(target, _ROWS_FOR_MATRIX, _FEWEST_FRAMES // 2)
        return target.resampled(settings.sampling(target, FOR_ROWS), places)

    def _some_frames(self, target: DynamicalTarget, rows: int, fewest: int) -> list[int]:
        """Frames all over the scan, so that there are as many rows for each parameter, and as many frames, at least."""
        rp = self.model.reparametrisation(self.schedule.refined)
        parameters = rp.jacobian_transpose_matching_grad_fc().n_rows
        frames = len(target.forward.frames)
        number = min(max(math.ceil(rows * (parameters + 1) * frames / len(target.rows)), fewest), frames)
        return [int(place) for place in (np.arange(number) + 0.5) * frames / number]

    def _cycles(
        self, target: DynamicalTarget, stage: str, stop: Callable[[], bool] | None = None
    ) -> tuple[crystallographic_ls, float]:
        """Least squares until the shifts are small, and the largest in s.u.s; the equations stand where the structure does.

        When they first fall below a part of their s.u.s, weights are chosen, and ``stop`` is asked whether that is the end.
        """
        model, schedule, solver = self.model, self.schedule, target.solver_name
        ls = crystallographic_ls(
            target,
            model.reparametrisation(schedule.refined),
            restraints_manager=model.restraints,
            weighting_scheme=self.scheme,
            loss=schedule.loss,
            rows_from=self._rows_from(target),
            progress=self.progress(f"{solver}, {stage}"),
        )
        usual = usual_shifts(model.structure, ls.reparametrisation)
        most, least = (schedule.cycles, schedule.shift_over_su) if stage == _LAST else (_FIRST_CYCLES, _FIRST_SHIFT)
        weighted = schedule.weighting is not None
        secants: list[tuple[FloatArray, FloatArray]] = []
        step = before = np.zeros(0)
        shift = 0.0
        for cycle in range(most + 1):
            ls.build_up()
            _solve(ls)
            right = ls.right_hand_side
            if len(step) and shift > _SMALL:
                secants.append((step, before - right))
            matrix = curvature(_corrected(ls.normal_matrix, self.correction), secants)
            last, before = step, right
            shift = ls.shift_over_su(np.linalg.solve(matrix, right))
            step = bounded_step(matrix, right, usual, last)
            r_obs = target.statistics(ls.fc_sq.data().as_numpy_array()).r_obs
            self.say(
                f"{solver}: {stage}, cycle {cycle}, R(obs) {r_obs:.4f}, wR2 {ls.wR2():.4f}, "
                f"goodness of fit {ls.restrained_goof():.3f}, shift/s.u. {shift:.3f}, {target.nuisance.describe()}"
            )
            if cycle == most or (weighted and shift < least):
                break
            if shift < _SETTLED and stop is not None:
                if stop():
                    break
                stop = None
            new_weights = shift < max(least, _SETTLED) and not weighted
            if new_weights:
                weighted, secants = True, []
                columns = (ls.fo_sq.data(), ls.fo_sq.sigmas(), ls.fc_sq.data())
                ls.weighting_scheme = flat_weighting(*(column.as_numpy_array() for column in columns))
            ls.renew_rows, ls.renew_sizes = shift > _FAR, shift > _SETTLED or new_weights
            ls.step_forward(step)
        self.scheme, self.correction = ls.weighting_scheme, matrix - ls.normal_matrix
        return ls, shift


def _take_over(target: DynamicalTarget, nuisance: Nuisance, places: list[int]) -> None:
    """What some of the frames say of thickness and spread is taken for all, what they say of themselves for them."""
    centres, scales = target.nuisance.centres.copy(), target.nuisance.scales.copy()
    centres[places], scales[places] = nuisance.centres, nuisance.scales
    target.nuisance = replace(nuisance, centres=centres, scales=scales)


def _solve(ls: crystallographic_ls) -> None:
    try:
        ls.solve()
    except RuntimeError as error:
        raise Sorry(
            f"{ls.n_equations} rows do not determine all of {ls.n_refined} parameters: take more frames, or fewer "
            "parameters (refinement.hydrogens=riding, refinement.anisotropic=none), or refinement.method=gradient"
        ) from error


def _corrected(matrix: FloatArray, correction: FloatArray | None) -> FloatArray:
    """The normal matrix with the correction that was found on other frames or before, where that leaves it definite."""
    if correction is None or correction.shape != matrix.shape:
        return matrix
    try:
        np.linalg.cholesky(matrix + correction)
    except np.linalg.LinAlgError:
        return matrix
    return matrix + correction


def curvature(matrix: FloatArray, secants: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """A normal matrix, corrected by what the steps so far have shown of the second derivatives (BFGS).

    Residuals of dynamical intensities are large, and Gauss-Newton takes the curvature along some parameters, such as
    displacements of hydrogen, for twice what it is: without the correction, steps shrink by a fifth a cycle.
    """
    for step, change in secants:
        across = matrix @ step
        along, true = float(step @ across), float(step @ change)
        if true > _LEAST_CURVATURE * along:
            matrix = matrix - np.outer(across, across) / along + np.outer(change, change) / true
    return matrix


def bounded_step(matrix: FloatArray, right: FloatArray, usual: FloatArray, last: FloatArray) -> FloatArray:
    """The solution (P,) of normal equations with bounds: a few usual shifts, and half of the last step (P,) or (0,) for what
    went farther than is usual and now comes back.

    The others move as suits those that are held. Torsions of hydroxyls overshoot: the intensities hardly know them, and
    depend on them like a cosine.
    """
    upper = _LARGEST_STEP * usual
    lower = -upper
    if len(last):
        upper = np.where(last < -usual, -last / 2.0, upper)
        lower = np.where(last > usual, -last / 2.0, lower)
    root = np.linalg.cholesky(matrix * np.outer(usual, usual))
    found = scipy.optimize.lsq_linear(
        root.T,
        scipy.linalg.solve_triangular(root, usual * right, lower=True),
        bounds=(lower / usual, upper / usual),
        method="bvls",
    )
    return np.asarray(usual * found.x)


def _described(ls: crystallographic_ls, shift: float, model: RefinementModel) -> LeastSquaresFit:
    rp = ls.reparametrisation
    return LeastSquaresFit(
        covariance=ls.covariance_matrix(rp.jacobian_transpose_matching_grad_fc()),
        nuisance_su=ls.nuisance_su,
        parameters=ls.n_refined,
        restraints=ls.n_restraints or 0,
        goodness_of_fit=ls.goof(),
        restrained_goodness_of_fit=ls.restrained_goof(),
        wr2=ls.wR2(),
        shift_over_su=shift,
        weighting=ls.weighting_scheme,
        loss=ls.loss,
        residuals=ls.residuals,
        riding=frozenset(
            place for each in model.constraints for place in getattr(each, "constrained_site_indices", ())
        ),
        fixed_distances=dict(rp.fixed_distances),
        fixed_angles=dict(rp.fixed_angles),
    )
