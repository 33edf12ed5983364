"""Refinement of large models: a gradient minimiser for the atoms, in turns with the parameters of the measurement.

Each cycle fits the nuisance parameters at the fine level, takes the difference between fine and draft intensities as a
constant offset, and lets the atoms move at the draft level with that offset: the fixed point is that of the fine level
to first order, at the cost of the draft.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize

from edtbx.arrays import FloatArray
from edtbx.execution.progress import Reporter, one_step
from edtbx.intensities.nuisance import Nuisance
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.refinement.checkpoint import Checkpoint, atoms_of, put_atoms
from edtbx_cctbx.refinement.compare import fit_coarse, fit_theory
from edtbx_cctbx.refinement.model import RefinementModel, allows_anisotropic, make_anisotropic
from edtbx_cctbx.refinement.parameters import StructureParameters
from edtbx_cctbx.refinement.results import TheoryFit
from edtbx_cctbx.refinement.settings import RefinementSettings, Settings
from edtbx_cctbx.targets.target import DynamicalTarget

_DAMPING = 0.01
"""What is added to the diagonal of the estimated curvature, as a part of it."""

_ITERATIONS = 12
"""Most steps of a minimisation."""

_CONVERGENCE = 1e-3
"""A part of the target by which the last step of a minimisation may lower it."""


_HOPELESS = 1e3
"""In place of the target, in units of its start, where structure factors cannot be computed."""


def refine_by_gradient(
    target: DynamicalTarget,
    model: RefinementModel,
    settings: Settings,
    schedule: RefinementSettings,
    report: Reporter,
    checkpoint: Checkpoint,
) -> TheoryFit:
    """Refine a structure, in place, and the nuisance parameters of its target; the fit at the end.

    A KeyboardInterrupt leaves the fit that the last cycle started from in ``checkpoint.latest``.
    """
    structure = model.structure

    def draft(name: str) -> None:
        def step() -> tuple[list[Any], Nuisance]:
            _draft(target, model, settings, schedule, report)
            return atoms_of(structure), target.nuisance

        atoms, target.nuisance = checkpoint.step(name, step)
        put_atoms(structure, atoms)

    draft("draft")
    target.nuisance = checkpoint.step("law", lambda: fit_coarse(target, structure, settings, report))
    draft("draft with another law")
    if allows_anisotropic(structure, target.experiment, schedule):
        make_anisotropic(model, hydrogen=schedule.anisotropic == "all")
        draft("anisotropic draft")
    for cycle in range(schedule.cycles):
        fit = checkpoint.step(f"cycle {cycle + 1}", lambda: fit_theory(target, structure, settings, report)[0])
        target.nuisance = fit.nuisance
        said = f"cycle {cycle + 1}, R(obs) {fit.statistics.r_obs:.4f}, {fit.nuisance.describe()}"
        report.say(f"{target.solver_name}: {said}")
        so_far = replace(fit, structure=structure.deep_copy_scatterers(), interrupted=f"cycle {cycle + 1}")
        checkpoint.latest = partial(copy, so_far)
        before = structure.sites_cart()

        def step(fit: TheoryFit = fit) -> list[Any]:
            with one_step(report.progress(f"{target.solver_name}, atoms")):
                _with_offsets(target, model, settings, schedule, fit)
            return atoms_of(structure)

        put_atoms(structure, checkpoint.step(f"shifts of cycle {cycle + 1}", step))
        moved = float(np.sqrt(to_numpy((structure.sites_cart() - before).norms() ** 2).max()))
        report.say(f"{target.solver_name}: largest shift {moved:.4f} Å")
        if moved < schedule.site_tolerance:
            break
    return checkpoint.step("end", lambda: fit_theory(target, structure, settings, report)[0])


def _draft(
    target: DynamicalTarget,
    model: RefinementModel,
    settings: Settings,
    schedule: RefinementSettings,
    report: Reporter,
) -> None:
    """Atoms, then measurement, at the draft level."""
    draft = settings.draft_of(target)
    draft.choices = replace(draft.choices, shapes=(target.nuisance.shape,))
    with one_step(report.progress(f"{target.solver_name}, draft")):
        first, last, n = minimise(draft, model, schedule)
    report.say(f"{target.solver_name}: draft, target {first:.5f} -> {last:.5f} with {n} parameters")
    target.nuisance = draft.fit_nuisance(model.structure)


def _with_offsets(
    target: DynamicalTarget, model: RefinementModel, settings: Settings, schedule: RefinementSettings, fit: TheoryFit
) -> None:
    """Atoms at the draft level, corrected by what the fine level adds to its intensities where they start."""
    draft, nuisance = settings.draft_of(target), fit.nuisance
    coarse = draft.forward.intensities(draft.structure_factors(model.structure), nuisance)
    ends = np.cumsum([len(i) for i in coarse])[:-1]
    draft.offsets = [
        i_fine / scale - i for i_fine, scale, i in zip(np.split(fit.i_calc, ends), nuisance.scales, coarse, strict=True)
    ]
    minimise(draft, model, schedule)


def minimise(target: DynamicalTarget, model: RefinementModel, schedule: RefinementSettings) -> tuple[float, float, int]:
    """Move the atoms to lower the target; its value before and after, and the number of parameters.

    Quasi-Newton steps in coordinates in which the estimated curvature is the same in all directions.
    """
    parameters = StructureParameters(model, schedule.refined)
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
            try:
                parameters.move(whitened @ position)
                value, gradient = parameters.value_and_gradient(target)
            except RuntimeError:  # displacements beyond what cctbx computes: a step too long
                return _HOPELESS, whitened.T @ slope / start
        best = min(best, (value, position.copy()), key=lambda each: each[0])
        return value / start, whitened.T @ gradient / start

    options = {"maxiter": _ITERATIONS, "maxfun": 2 * _ITERATIONS, "ftol": _CONVERGENCE}
    try:
        minimize(evaluate, best[1], jac=True, method="L-BFGS-B", options=options)
    finally:  # interrupted or not
        parameters.move(whitened @ best[1])
    return start, best[0], len(parameters)
