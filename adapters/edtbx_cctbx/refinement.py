"""Refinement of a structure: parameters of the atoms and of the measurement in turn, coarse levels first.

Each cycle fits the nuisance parameters at the fine level, takes the difference between fine and draft intensities as a
constant offset, and lets the atoms move at the draft level with that offset: the fixed point is that of the fine level
to first order, at the cost of the draft.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cctbx import xray
from scipy.optimize import minimize

from edtbx.experiment import Experiment, FloatArray
from edtbx.levels import draft_sampling
from edtbx.nuisance import Nuisance
from edtbx_cctbx.comparison import ProgressFactory, Settings, fit_coarse, fit_theory, silent
from edtbx_cctbx.parameters import Refined, StructureParameters, make_anisotropic
from edtbx_cctbx.results import Comparison, TheoryFit
from edtbx_cctbx.target import DynamicalTarget

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What moves and for how long.

    ``anisotropic`` is "auto" (atoms other than H where there are at least ``rows_per_parameter`` rows a parameter),
    "all" or "none"; ``cycles`` bounds the fine cycles, ``iterations`` the steps of a minimisation; refinement stops
    when no site moves by more than ``site_tolerance`` in Å in a cycle.
    """

    refined: Refined = field(default_factory=Refined)
    anisotropic: str = "auto"
    rows_per_parameter: float = 10.0
    cycles: int = 3
    iterations: int = 12
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
    """Both theories refined from the same start, each on its own."""
    began = time.perf_counter()
    kinematical, _ = refine_theory("kinematical", experiment, structure, settings, schedule, progress, say)
    dynamical, target = refine_theory(settings.solver, experiment, structure, settings, schedule, progress, say)
    return Comparison(
        experiment=target.experiment,
        selection=target.selection,
        rows=target.rows,
        kinematical=kinematical,
        dynamical=dynamical,
        refined=True,
        total_seconds=time.perf_counter() - began,
        parameters=parameters or {},
    )


def refine_theory(
    solver: str,
    experiment: Experiment,
    start: xray.structure,
    settings: Settings,
    schedule: Schedule,
    progress: ProgressFactory,
    say: Say,
) -> tuple[TheoryFit, DynamicalTarget]:
    """One theory, refined; the start is left alone. Ctrl-C between two steps ends it with what is there."""
    structure = start.deep_copy_scatterers()
    nuisance = fit_coarse(solver, experiment, structure, settings, progress)
    say(f"{solver}: {_described(nuisance)}")
    try:
        for round_ in range(2):
            nuisance = _draft(solver, experiment, structure, settings, schedule, nuisance, say)
            if round_ == 0:
                nuisance = fit_coarse(solver, experiment, structure, settings, progress)
        if _allows_anisotropic(structure, experiment, schedule):
            make_anisotropic(structure, hydrogen=schedule.anisotropic == "all")
            nuisance = _draft(solver, experiment, structure, settings, schedule, nuisance, say)
        for cycle in range(schedule.cycles):
            fit, fine = fit_theory(solver, experiment, structure, settings, progress, nuisance)
            nuisance = fit.nuisance
            say(f"{solver}: cycle {cycle + 1}, R(obs) {fit.statistics.r_obs:.4f}, {_described(nuisance)}")
            before = structure.sites_cart()
            _with_offsets(solver, experiment, structure, settings, schedule, fine, fit)
            moved = float(np.sqrt(((structure.sites_cart() - before).norms() ** 2).as_numpy_array().max()))
            say(f"{solver}: largest shift {moved:.4f} Å")
            if moved < schedule.site_tolerance:
                break
    except KeyboardInterrupt:
        say(f"{solver}: interrupted; going on with the structure as it stands")
    return fit_theory(solver, experiment, structure, settings, progress, nuisance)


def _draft(
    solver: str,
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings,
    schedule: Schedule,
    nuisance: Nuisance,
    say: Say,
) -> Nuisance:
    """Atoms, then measurement, at the draft level."""
    target = settings.target(solver, experiment, structure, draft_sampling(nuisance, settings.choices), nuisance)
    target.fit_nuisance(structure)
    first, last, n = minimise(target, structure, schedule)
    say(f"{solver}: draft, target {first:.5f} -> {last:.5f} with {n} parameters")
    return target.fit_nuisance(structure)


def _with_offsets(
    solver: str,
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings,
    schedule: Schedule,
    fine: DynamicalTarget,
    fit: TheoryFit,
) -> None:
    """Atoms at the draft level, corrected by what the fine level adds to its intensities where they start."""
    nuisance = fit.nuisance
    draft = settings.target(solver, experiment, structure, draft_sampling(nuisance, settings.choices), nuisance)
    coarse = draft.forward.intensities(draft.structure_factors(structure), nuisance)
    ends = np.cumsum([len(i) for i in coarse])[:-1]
    draft.offsets = [
        i_fine / scale - i for i_fine, scale, i in zip(np.split(fit.i_calc, ends), nuisance.scales, coarse, strict=True)
    ]
    minimise(draft, structure, schedule)


def minimise(target: DynamicalTarget, structure: xray.structure, schedule: Schedule) -> tuple[float, float, int]:
    """Move the atoms to lower the target; its value before and after, and the number of parameters."""
    parameters = StructureParameters(structure, schedule.refined)
    values: list[float] = []

    def evaluate(position: FloatArray) -> tuple[float, FloatArray]:
        parameters.move(position)
        value, gradient = parameters.value_and_gradient(target)
        values.append(value)
        return value, gradient

    # in units of usual shifts; relative to the start, so that the tolerance means the same for every crystal
    start = np.zeros(len(parameters))
    options = {"maxiter": schedule.iterations, "maxfun": 2 * schedule.iterations, "ftol": 3e-5}
    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
    parameters.move(found.x)
    return values[0], float(found.fun), len(parameters)


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
