"""Refinement of a structure: parameters of the atoms and of the measurement in turn, coarse levels first.

Each cycle fits the nuisance parameters at the fine level, takes the difference between fine and draft intensities as a
constant offset, and lets the atoms move at the draft level with that offset: the fixed point is that of the fine level
to first order, at the cost of the draft.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry
from scipy.optimize import minimize

from edtbx.experiment import Experiment, FloatArray
from edtbx.levels import DRAFT
from edtbx.nuisance import Nuisance
from edtbx.registry import installed_solvers
from edtbx.solvers.block import DifferentiableSolver
from edtbx_cctbx.comparison import ProgressFactory, Settings, fit_coarse, fit_theory, silent
from edtbx_cctbx.parameters import Refined, StructureParameters, make_anisotropic
from edtbx_cctbx.results import Comparison, TheoryFit
from edtbx_cctbx.target import DynamicalTarget

Say = Callable[[str], None]


_DAMPING = 0.01
"""What is added to the diagonal of the estimated curvature, as a part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What moves and for how long.

    ``anisotropic`` is "auto" (atoms other than H where there are at least ``rows_per_parameter`` rows a parameter),
    "all" or "none"; ``cycles`` bounds the fine cycles, ``iterations`` the steps of a minimisation, which ends
    where a step lowers the target by less than ``convergence`` of it; refinement stops
    when no site moves by more than ``site_tolerance`` in Å in a cycle.
    """

    refined: Refined = field(default_factory=Refined)
    anisotropic: str = "auto"
    rows_per_parameter: float = 10.0
    cycles: int = 3
    iterations: int = 12
    convergence: float = 1e-3
    site_tolerance: float = 0.002


def refine(
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings,
    schedule: Schedule,
    progress: ProgressFactory = silent,
    say: Say = print,
    parameters: dict[str, Any] | None = None,
) -> Comparison:
    """Both theories refined from the same start, each on its own.

    Ctrl-C ends the refinement; what is found by then is fitted to the data, and a theory that has not had its turn keeps
    the start. A second one raises KeyboardInterrupt.

    Raises
    ------
    Sorry
        The solver gives no derivatives.
    """
    began = time.perf_counter()
    if not isinstance(installed_solvers().create(settings.solver), DifferentiableSolver):
        raise Sorry(f"the solver {settings.solver} gives no derivatives, which refinement needs: take solver.name=auto")
    fits: list[TheoryFit] = []
    interrupted = False
    for solver in ("kinematical", settings.solver):
        target = settings.target(solver, experiment, structure)
        target.nuisance = fit_coarse(target, structure, settings, progress)
        refined = structure.deep_copy_scatterers()
        say(f"{solver}: {_described(target.nuisance)}")
        try:
            if not interrupted:
                refine_theory(target, refined, settings, schedule, progress, say)
        except KeyboardInterrupt:
            interrupted = True
            say("interrupted: going on with what is there; Ctrl-C again leaves at once, without results")
        fit, target = fit_theory(target, refined, settings, progress)
        fits.append(fit)
    return Comparison(
        experiment=target.experiment,
        selection=target.selection,
        rows=target.rows,
        kinematical=fits[0],
        dynamical=fits[1],
        refined=True,
        total_seconds=time.perf_counter() - began,
        parameters=parameters or {},
    )


def refine_theory(
    target: DynamicalTarget,
    structure: xray.structure,
    settings: Settings,
    schedule: Schedule,
    progress: ProgressFactory,
    say: Say,
) -> None:
    """Refine a structure, in place, and the nuisance parameters of its target.

    A KeyboardInterrupt leaves both at the best that was found.
    """
    for round_ in range(2):
        _draft(target, structure, settings, schedule, say)
        if round_ == 0:
            target.nuisance = fit_coarse(target, structure, settings, progress)
    if _allows_anisotropic(structure, target.experiment, schedule):
        make_anisotropic(structure, hydrogen=schedule.anisotropic == "all")
        _draft(target, structure, settings, schedule, say)
    for cycle in range(schedule.cycles):
        fit, _ = fit_theory(target, structure, settings, progress)
        target.nuisance = fit.nuisance
        said = f"cycle {cycle + 1}, R(obs) {fit.statistics.r_obs:.4f}, {_described(fit.nuisance)}"
        say(f"{target.solver_name}: {said}")
        before = structure.sites_cart()
        _with_offsets(target, structure, settings, schedule, fit)
        moved = float(np.sqrt(((structure.sites_cart() - before).norms() ** 2).as_numpy_array().max()))
        say(f"{target.solver_name}: largest shift {moved:.4f} Å")
        if moved < schedule.site_tolerance:
            break


def _draft_of(target: DynamicalTarget, settings: Settings) -> DynamicalTarget:
    accuracy = settings.beams(DRAFT.accuracy, target.forward.solver)
    level = replace(DRAFT, accuracy=accuracy)
    return target.resampled(level.sampling(target.nuisance, settings.choices, target.forward.g_max))


def _draft(
    target: DynamicalTarget, structure: xray.structure, settings: Settings, schedule: Schedule, say: Say
) -> None:
    """Atoms, then measurement, at the draft level."""
    draft = _draft_of(target, settings)
    draft.choices = replace(draft.choices, shapes=(target.nuisance.shape,))
    first, last, n = minimise(draft, structure, schedule)
    say(f"{target.solver_name}: draft, target {first:.5f} -> {last:.5f} with {n} parameters")
    target.nuisance = draft.fit_nuisance(structure)


def _with_offsets(
    target: DynamicalTarget, structure: xray.structure, settings: Settings, schedule: Schedule, fit: TheoryFit
) -> None:
    """Atoms at the draft level, corrected by what the fine level adds to its intensities where they start."""
    draft, nuisance = _draft_of(target, settings), fit.nuisance
    coarse = draft.forward.intensities(draft.structure_factors(structure), nuisance)
    ends = np.cumsum([len(i) for i in coarse])[:-1]
    draft.offsets = [
        i_fine / scale - i for i_fine, scale, i in zip(np.split(fit.i_calc, ends), nuisance.scales, coarse, strict=True)
    ]
    minimise(draft, structure, schedule)


def minimise(target: DynamicalTarget, structure: xray.structure, schedule: Schedule) -> tuple[float, float, int]:
    """Move the atoms to lower the target; its value before and after, and the number of parameters.

    Quasi-Newton steps in coordinates in which the estimated curvature is the same in all directions.
    """
    parameters = StructureParameters(structure, schedule.refined)
    curvature = parameters.curvature(target)
    damped = curvature + np.diag(_DAMPING * np.maximum(np.diag(curvature), np.diag(curvature).max() * 1e-6))
    whitened = np.linalg.inv(np.linalg.cholesky(damped)).T
    start, slope = parameters.value_and_gradient(target)
    # the first step, which scipy makes one unit long, is the Newton step of the estimated curvature
    whitened *= float(np.linalg.norm(whitened.T @ slope))

    best = start, np.zeros(len(parameters))

    def evaluate(position: FloatArray) -> tuple[float, FloatArray]:
        nonlocal best
        value, gradient = start, slope
        if np.any(position):
            parameters.move(whitened @ position)
            value, gradient = parameters.value_and_gradient(target)
        best = min(best, (value, position.copy()), key=lambda each: each[0])
        return value / start, whitened.T @ gradient / start

    options = {"maxiter": schedule.iterations, "maxfun": 2 * schedule.iterations, "ftol": schedule.convergence}
    try:
        minimize(evaluate, best[1], jac=True, method="L-BFGS-B", options=options)
    finally:  # interrupted or not
        parameters.move(whitened @ best[1])
    return start, best[0], len(parameters)


def _allows_anisotropic(structure: xray.structure, experiment: Experiment, schedule: Schedule) -> bool:
    if schedule.anisotropic == "none" or not schedule.refined.displacements:
        return False
    heavy = sum(s.element_symbol() not in ("H", "D") for s in structure.scatterers())
    enough = len(experiment.reflections) / 3 > schedule.rows_per_parameter * (
        9 * heavy + 4 * len(structure.scatterers())
    )
    return schedule.anisotropic == "all" or enough


def _described(nuisance: Nuisance) -> str:
    return f"{nuisance.shape} of {nuisance.thickness:.0f} Å, spread {np.degrees(nuisance.sigma):.3f}°"
