"""Refinement of large models: L-BFGS for the atoms, alternating with fits of the nuisance parameters.

Each cycle fits the nuisance parameters at the fine level, takes the difference between fine and draft intensities as a
constant offset, and refines the atoms at the draft level with that offset: the fixed point is that of the fine level
to first order, at the cost of the draft.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from cctbx import xray
from scipy.optimize import minimize

from edtbx.arrays import FloatArray
from edtbx.execution.progress import Reporter, one_step
from edtbx.intensities.nuisance import Nuisance
from edtbx.levels.sampling_levels import DRAFT
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.io.checkpoint import Checkpoint, atoms_of, put_atoms
from edtbx_cctbx.refinement.compare import fit_theory
from edtbx_cctbx.refinement.model import RefinementModel, allows_anisotropic, make_anisotropic
from edtbx_cctbx.refinement.parameters import StructureParameters
from edtbx_cctbx.refinement.results import TheoryFit
from edtbx_cctbx.refinement.settings import RefinementSettings
from edtbx_cctbx.targets.scattering_model import ScatteringModel
from edtbx_cctbx.targets.target import Target

_DAMPING = 0.01
"""Relative damping of the diagonal of the estimated curvature."""

_ITERATIONS = 12
"""Most iterations of one minimisation."""

_CONVERGENCE = 1e-3
"""Relative decrease of the target in one iteration that ends a minimisation."""

_HOPELESS = 1e3
"""Value in place of the target, relative to its start, where structure factors cannot be computed."""


def refine_by_gradient(
    scattering: ScatteringModel,
    nuisance: Nuisance,
    model: RefinementModel,
    settings: RefinementSettings,
    report: Reporter,
    checkpoint: Checkpoint,
) -> TheoryFit:
    """Fit of one theory by L-BFGS; the structure of the model is refined in place.

    A KeyboardInterrupt leaves the fit that the last cycle started from in ``checkpoint.latest``.
    """
    structure, solver = model.structure, scattering.solver_name

    def draft(name: str, start: Nuisance) -> Nuisance:
        def step() -> tuple[list[Any], Nuisance]:
            with one_step(report.progress(f"{solver}, draft")):
                target = _draft_of(scattering, start)
                first, last, n = minimise(target, model, settings)
            report.say(f"{solver}: draft, target {first:.5f} -> {last:.5f} with {n} parameters")
            return atoms_of(structure), target.fit_nuisance(structure)

        atoms, fitted = checkpoint.step(name, step)
        put_atoms(structure, atoms)
        return fitted

    draft("draft", nuisance)
    nuisance = checkpoint.step("law", partial(scattering.fit_coarse, structure, report.progress(f"{solver}, coarse")))
    nuisance = draft("draft with another law", nuisance)
    if allows_anisotropic(structure, scattering.experiment, settings):
        make_anisotropic(model, hydrogen=settings.anisotropic == "all")
        nuisance = draft("anisotropic draft", nuisance)
    for cycle in range(settings.cycles):
        fit = checkpoint.step(f"cycle {cycle + 1}", partial(fit_theory, scattering, nuisance, structure, report))
        nuisance = fit.nuisance
        report.say(f"{solver}: cycle {cycle + 1}, R(obs) {fit.statistics.r_obs:.4f}, {nuisance.describe()}")
        so_far = replace(fit, structure=structure.deep_copy_scatterers(), interrupted=f"cycle {cycle + 1}")
        checkpoint.latest = partial(copy, so_far)
        before = structure.sites_cart()

        def step(fit: TheoryFit = fit) -> list[Any]:
            with one_step(report.progress(f"{solver}, atoms")):
                minimise(_corrected_draft(scattering, structure, fit), model, settings)
            return atoms_of(structure)

        put_atoms(structure, checkpoint.step(f"shifts of cycle {cycle + 1}", step))
        moved = float(np.sqrt(to_numpy((structure.sites_cart() - before).norms() ** 2).max()))
        report.say(f"{solver}: largest shift {moved:.4f} Å")
        if moved < settings.site_tolerance:
            break
    return checkpoint.step("end", partial(fit_theory, scattering, nuisance, structure, report))


def _draft_of(scattering: ScatteringModel, nuisance: Nuisance) -> Target:
    """Target at the draft level of sampling, with the thickness law held."""
    draft, nuisance = scattering.at_level(DRAFT, nuisance)
    return Target.of(replace(draft, bounds=replace(draft.bounds, shapes=(nuisance.shape,))), nuisance)


def _corrected_draft(scattering: ScatteringModel, structure: xray.structure, fit: TheoryFit) -> Target:
    """Target at the draft level, with offsets that correct its intensities to the fine level of a fit."""
    target, nuisance = _draft_of(scattering, fit.nuisance), fit.nuisance
    coarse = target.forward.intensities(target.structure_factors(structure), nuisance)
    fine = fit.observations.split(fit.i_calc)
    target.offsets = [i_fine / scale - i for i_fine, scale, i in zip(fine, nuisance.scales, coarse, strict=True)]
    return target


def minimise(target: Target, model: RefinementModel, settings: RefinementSettings) -> tuple[float, float, int]:
    """Refine the atoms by L-BFGS; target before, target after, number of parameters.

    Coordinates are whitened: the estimated curvature is the same in all directions.
    """
    parameters = StructureParameters(model, settings.refined)
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
        best = min(best, (value, position.copy()), key=lambda value_and_position: value_and_position[0])
        return value / start, whitened.T @ gradient / start

    options = {"maxiter": _ITERATIONS, "maxfun": 2 * _ITERATIONS, "ftol": _CONVERGENCE}
    try:
        minimize(evaluate, best[1], jac=True, method="L-BFGS-B", options=options)
    finally:  # interrupted or not
        parameters.move(whitened @ best[1])
    return start, best[0], len(parameters)
