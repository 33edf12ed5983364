"""Refinement by full-matrix least squares: as the model comes, then anisotropic on some of the frames, at last on all.

Fewer frames cost precision only. At a coarse level of sampling a structure adapts to errors of the intensities instead, and
thickness and structure then hold each other in a wrong minimum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry
from smtbx.refinement.least_squares import mainstream_shelx_weighting

from edtbx.experiment import FloatArray
from edtbx.nuisance import Nuisance
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

_FIRST_SHIFT = 1.0
"""Shifts in s.u.s that end them: all frames will shift by as much."""

_FEWEST_ROWS = 12
"""Rows for each parameter that some of the frames must have."""

_SPARSEST = 3
"""Every third frame is the least that is taken."""

_THICKEST = 3.6
"""Greatest thickness of all laws, in mean thicknesses, when they are compared: 3 for the law ``thin``, and some reserve."""

_LAW_STEPS = 120
"""Thicknesses up to there."""

_SETTLED = 0.5
"""Shifts in s.u.s below which weights are chosen again."""

_SMALL = 0.05
"""Steps of fewer s.u.s teach nothing of the curvature: what they change is not far above what rounding does."""

_FAR = 2.0
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
    structure = model.structure
    scheme = refine_first(target, model, settings, schedule, progress, say)
    _find_law(target, structure, settings)
    if allows_anisotropic(structure, target.experiment, schedule):
        make_anisotropic(structure, hydrogen=schedule.anisotropic == "all")
        scheme = _on_some_frames(target, model, settings, schedule, scheme, "anisotropic", progress, say)
    found = settings.level_for(target, structure, target.nuisance)

    def another_law() -> bool:
        law = fine.nuisance.shape
        _find_law(target, structure, settings)
        return target.nuisance.shape != law

    for last in (False, True):
        fine = target.resampled(settings.sampling(target, found.level))
        try:
            ls, shift = _cycles(fine, model, schedule, scheme, _LAST, progress, say, None if last else another_law)
        finally:
            law = target.nuisance.shape
            if law == fine.nuisance.shape:
                target.nuisance = fine.nuisance
        if law == fine.nuisance.shape:
            break
        say(f"{target.solver_name}: another thickness law, {law}, now suits better")
    return theory_fit(
        fine, structure, ls.cubes, found, time.perf_counter() - began, least_squares=_described(ls, shift, model)
    )


def refine_first(
    target: DynamicalTarget,
    model: RefinementModel,
    settings: Settings,
    schedule: Schedule,
    progress: ProgressFactory,
    say: Say,
) -> Any:
    """The first cycles, of a model as it comes and on some of the frames; the weighting scheme to go on with."""
    scheme = mainstream_shelx_weighting(a=_START if schedule.weighting is None else schedule.weighting, b=0)
    return _on_some_frames(target, model, settings, schedule, scheme, "first", progress, say)


def _on_some_frames(
    target: DynamicalTarget,
    model: RefinementModel,
    settings: Settings,
    schedule: Schedule,
    scheme: Any,
    stage: str,
    progress: ProgressFactory,
    say: Say,
) -> Any:
    places = _some_frames(target, model, schedule)
    some = target.resampled(settings.sampling(target, settings.first_level(target)), places)
    try:
        return _cycles(some, model, schedule, scheme, f"{stage}, {len(places)} frames", progress, say)[
            0
        ].weighting_scheme
    finally:
        _take_over(target, some.nuisance, places)


def _some_frames(target: DynamicalTarget, model: RefinementModel, schedule: Schedule) -> list[int]:
    """Every second or third frame where these have rows enough, else all."""
    parameters = model.reparametrisation(schedule.refined).jacobian_transpose_matching_grad_fc().n_rows
    spare = len(target.rows) / (_FEWEST_ROWS * (parameters + 1))
    step = int(np.clip(spare, 1, _SPARSEST))
    return list(range((step - 1) // 2, len(target.forward.frames), step))


def _find_law(target: DynamicalTarget, structure: xray.structure, settings: Settings) -> None:
    """The thickness law, thickness and spread that suit the structure best."""
    mean = mean_thickness(target.nuisance.shape, target.nuisance.thickness)
    thickest = _THICKEST * mean if settings.thickness is None else 1.2 * settings.thickness
    sampling = replace(
        settings.sampling(target, settings.first_level(target)),
        thickness_max=thickest,
        thickness_step=thickest / _LAW_STEPS,
    )
    target.nuisance = target.resampled(sampling).fit_nuisance(structure)


def _take_over(target: DynamicalTarget, nuisance: Nuisance, places: list[int]) -> None:
    """What some of the frames say of thickness and spread is taken for all, what they say of themselves for them."""
    centres, scales = target.nuisance.centres.copy(), target.nuisance.scales.copy()
    centres[places], scales[places] = nuisance.centres, nuisance.scales
    target.nuisance = replace(nuisance, centres=centres, scales=scales)


def _cycles(
    target: DynamicalTarget,
    model: RefinementModel,
    schedule: Schedule,
    scheme: Any,
    stage: str,
    progress: ProgressFactory,
    say: Say,
    stop: Callable[[], bool] | None = None,
) -> tuple[crystallographic_ls, float]:
    """Least squares until the shifts are small, and the largest in s.u.s; the equations stand where the structure does.

    When they first fall below a part of their s.u.s, weights are chosen, and ``stop`` is asked whether that is the end.
    """
    ls = crystallographic_ls(
        target,
        model.reparametrisation(schedule.refined),
        restraints_manager=model.restraints,
        weighting_scheme=scheme,
        loss=schedule.loss,
        progress=progress(f"{target.solver_name}, {stage}"),
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
        step, before = np.linalg.solve(curvature(ls, secants), right), right
        shift = ls.shift_over_su(step)
        r_obs = target.statistics(ls.fc_sq.data().as_numpy_array()).r_obs
        say(
            f"{target.solver_name}: {stage}, cycle {cycle}, R(obs) {r_obs:.4f}, wR2 {ls.wR2():.4f}, "
            f"goodness of fit {ls.restrained_goof():.3f}, shift/s.u. {shift:.3f}, {target.nuisance.describe()}"
        )
        if cycle == most or (weighted and shift < least):
            break
        if shift < _SETTLED and stop is not None:
            if stop():
                break
            stop = None
        if shift < max(least, _SETTLED) and not weighted:
            weighted, secants = True, []
            columns = (ls.fo_sq.data(), ls.fo_sq.sigmas(), ls.fc_sq.data())
            ls.weighting_scheme = flat_weighting(*(column.as_numpy_array() for column in columns))
        step *= min(1.0, _LARGEST_STEP / float(np.max(np.abs(step) / usual, initial=1e-9)))
        ls.renew_rows = shift > _FAR
        ls.step_forward(step)
    return ls, shift


def _solve(ls: crystallographic_ls) -> None:
    try:
        ls.solve()
    except RuntimeError as error:
        raise Sorry(
            f"{ls.n_equations} rows do not determine all of {ls.n_refined} parameters: take more frames, or fewer "
            "parameters (refinement.hydrogens=riding, refinement.anisotropic=none), or refinement.method=gradient"
        ) from error


def curvature(ls: crystallographic_ls, secants: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """The normal matrix, corrected by what the steps so far have shown of the second derivatives (BFGS).

    Residuals of dynamical intensities are large, and Gauss-Newton takes the curvature along some parameters, such as
    displacements of hydrogen, for twice what it is: without the correction, steps shrink by a fifth a cycle.
    """
    matrix = ls.normal_matrix
    for step, change in secants:
        across = matrix @ step
        along, true = float(step @ across), float(step @ change)
        if true > _LEAST_CURVATURE * along:
            matrix = matrix - np.outer(across, across) / along + np.outer(change, change) / true
    return matrix


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
