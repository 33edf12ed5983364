"""Refinement of a structure with both theories, each on its own, from the same start."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from cctbx import xray
from libtbx.utils import Sorry

from edtbx.experiment import Experiment
from edtbx_cctbx.comparison import ProgressFactory, Say, Settings, fit_coarse, fit_theory, silent
from edtbx_cctbx.gradient_refinement import refine_by_gradient
from edtbx_cctbx.held_out import free_statistics, without_every
from edtbx_cctbx.hydrogen_placement import place_hydrogens
from edtbx_cctbx.least_squares_refinement import LeastSquaresRun, refine_by_least_squares
from edtbx_cctbx.refinement_model import RefinementModel, Schedule
from edtbx_cctbx.results import Comparison, TheoryFit
from edtbx_cctbx.shelx_model import with_instructions
from edtbx_cctbx.target import DynamicalTarget


def refine(
    experiment: Experiment,
    structure: xray.structure | RefinementModel,
    settings: Settings,
    schedule: Schedule,
    progress: ProgressFactory = silent,
    say: Say = print,
    parameters: dict[str, Any] | None = None,
) -> Comparison:
    """Both theories refined from the same start, each on its own; the structure stays as it is.

    A model with constraints or restraints is refined with these, a structure with those that the schedule asks for.

    Ctrl-C ends the refinement; what is found by then is fitted to the data, and a theory that has not had its turn keeps
    the start. A second one raises KeyboardInterrupt.

    Raises
    ------
    Sorry
        The solver gives no derivatives, or no R(free) can be had.
    """
    began = time.perf_counter()
    settings.check_derivatives("refinement needs")
    left_out = None
    if schedule.free_frames is not None:
        if "free" in settings.choices.shapes:  # a histogram could not be held where it was found
            raise Sorry(
                "refinement.free_frames needs a thickness law with one parameter: leave out thickness.shape=free"
            )
        atoms = structure.structure if isinstance(structure, RefinementModel) else structure
        experiment, left_out = without_every(experiment, atoms, settings.rules, schedule.free_frames)
    fits: list[TheoryFit] = []
    interrupted = False
    if isinstance(structure, RefinementModel):
        model = structure
    else:
        if schedule.place_hydrogens:
            structure = _with_hydrogens(experiment, structure, settings, schedule, progress, say)
        model = with_instructions(RefinementModel.of(structure, schedule.riding), schedule.instructions)
    for solver in ("kinematical", settings.solver):
        mine = model.copy()
        mine.reparametrisation(schedule.refined)  # riding atoms go where they belong
        target = settings.target(solver, experiment, mine.structure)
        target.nuisance = fit_coarse(target, mine.structure, settings, progress)
        say(f"{solver}: {target.nuisance.describe()}")
        fit = None
        try:
            if not interrupted:
                fit = _refine_theory(target, mine, settings, schedule, progress, say)
        except KeyboardInterrupt:
            interrupted = True
            say("interrupted: going on with what is there; Ctrl-C again leaves at once, without results")
        fit = fit or fit_theory(target, mine.structure, settings, progress)[0]
        fits.append(fit if left_out is None else replace(fit, free=free_statistics(left_out, fit, settings, progress)))
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


def _with_hydrogens(
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings,
    schedule: Schedule,
    progress: ProgressFactory,
    say: Say,
) -> xray.structure:
    """Hydrogen added once the other atoms are where the dynamical theory puts them: bond lengths tell how many."""
    model = RefinementModel.of(structure, schedule.riding).copy()
    target = settings.target(settings.solver, experiment, model.structure)
    target.nuisance = fit_coarse(target, model.structure, settings, progress)
    run = LeastSquaresRun(target, model, settings, schedule, progress, lambda line: say(f"before hydrogen, {line}"))
    run.on_some_frames("first")
    placed, unsure = place_hydrogens(model.structure)
    before, after = (each.element_selection("H").count(True) for each in (structure, placed))
    say(f"hydrogen placed by geometry: {after - before} atoms")
    if unsure:
        say(f"not clear from geometry, and left without hydrogen: {', '.join(unsure)}")
    return placed


def _refine_theory(
    target: DynamicalTarget,
    model: RefinementModel,
    settings: Settings,
    schedule: Schedule,
    progress: ProgressFactory,
    say: Say,
) -> TheoryFit | None:
    """Refine a structure, in place, and the nuisance parameters of its target; what least squares says of them."""
    number = len(model.structure.scatterers()) * 9
    if schedule.method == "gradient" or (schedule.method == "auto" and number > schedule.most_parameters):
        refine_by_gradient(target, model, settings, schedule, progress, say)
        return None
    return refine_by_least_squares(target, model, settings, schedule, progress, say)
