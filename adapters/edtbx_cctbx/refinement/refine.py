"""Refinement of a structure with the kinematical and the dynamical theory, independently from the same start."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from cctbx import xray
from libtbx.utils import Sorry

from edtbx.checks import given_or_default
from edtbx.execution.progress import SILENT, CountingReporter, Reporter, one_step
from edtbx.intensities.nuisance import Nuisance
from edtbx.measurement.experiment import Experiment
from edtbx_cctbx.hydrogens.placement import place_hydrogens
from edtbx_cctbx.indexing.diagnosis import warn_if_hopeless
from edtbx_cctbx.io.checkpoint import Checkpoint
from edtbx_cctbx.refinement.cycles import Cycles, Undetermined
from edtbx_cctbx.refinement.free_rows import judged, without_every, without_fraction
from edtbx_cctbx.refinement.full_matrix import LeastSquaresRun, refine_by_least_squares
from edtbx_cctbx.refinement.model import RefinementModel
from edtbx_cctbx.refinement.preparation import odd_occupancies, prepared
from edtbx_cctbx.refinement.quasi_newton import refine_by_gradient
from edtbx_cctbx.refinement.results import Comparison, TheoryFit
from edtbx_cctbx.refinement.settings import RefinementSettings
from edtbx_cctbx.refinement.shelx_instructions import with_instructions
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.targets.scattering_model import ScatteringModel


def refine(
    experiment: Experiment,
    structure: xray.structure | RefinementModel,
    settings: RefinementSettings | None = None,
    report: Reporter = SILENT,
    parameters: dict[str, Any] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Comparison:
    """Refinements with both theories from the same start; the structure given is not changed.

    A KeyboardInterrupt ends the refinement with the theories that are done and the last complete cycle of the one in
    progress; it is raised again where this run has computed nothing yet.

    Parameters
    ----------
    experiment : Experiment
    structure : xray.structure or RefinementModel
        A model is refined with its constraints and restraints, a structure with those that the settings ask for.
    settings : RefinementSettings, optional
        Solver, accuracy, selection of rows; which parameters are refined, by which method.
    report : Reporter
        Shows progress.
    parameters : dict, optional
        Kept in the result, as a record.
    checkpoint : Checkpoint, optional
        On file it lets a run that is killed go on; the caller removes it once the result is safe.

    References
    ----------
    L. Palatinus, V. Petříček & C. A. Corrêa, Acta Cryst. A71, 235 (2015), doi:10.1107/S2053273315001266.

    Raises
    ------
    Sorry
        The solver gives no derivatives, nothing can be left out for R(free), or data and model do not fit together.
    """
    settings = given_or_default(settings, RefinementSettings, "settings")
    checkpoint, report = checkpoint or Checkpoint(), CountingReporter(report)
    settings.check_derivatives("refinement needs")
    atoms = structure.structure if isinstance(structure, RefinementModel) else structure
    settings.check_method(atoms)
    experiment, left_out = without_free_rows(experiment, atoms, settings)
    fits: list[TheoryFit] = []
    interrupted = None
    scattering: ScatteringModel | None = None
    try:
        model = _model_of(structure, experiment, settings, report, checkpoint)
        for theory, solver in (("kinematical", "kinematical"), ("dynamical", settings.solver)):
            checkpoint.latest = None
            copied = model.copy()
            copied.reparametrisation(settings.refined)  # riding atoms go where they belong
            scattering = settings.scattering_model(solver, experiment, copied.structure)
            fit = checkpoint.step(theory, partial(_refine_theory, scattering, copied, settings, report, checkpoint))
            if left_out is not None:
                free = checkpoint.step(f"{theory}, free", partial(judged, left_out, fit, settings, report))
                fit = replace(fit, free=free)
            set_electron_form_factors(fit.structure)
            for line in odd_occupancies(replace(copied, structure=fit.structure), settings):
                report.say(f"{solver}: {line}")
            fits.append(fit)
    except Undetermined:
        checkpoint.remove()  # nothing can go on from there
        raise
    except KeyboardInterrupt as stop:
        if checkpoint.latest is not None:
            fits.append(checkpoint.latest())
        if scattering is None or not fits or not checkpoint.has_news:
            raise
        interrupted = str(stop) or "interrupted"
    assert scattering is not None
    return Comparison(
        experiment=warn_if_hopeless(scattering.experiment, fits[0].structure, fits[0].statistics.r_obs),
        selection=scattering.selection,
        kinematical=fits[0],
        dynamical=fits[1] if len(fits) > 1 else None,
        refined=True,
        total_seconds=checkpoint.seconds,
        costs=report.costs,
        parameters=parameters or {},
        interrupted=interrupted,
    )


def _model_of(
    structure: xray.structure | RefinementModel,
    experiment: Experiment,
    settings: RefinementSettings,
    report: Reporter,
    checkpoint: Checkpoint,
) -> RefinementModel:
    """The model to refine, with the hydrogen, constraints and restraints that the settings ask for."""
    if isinstance(structure, RefinementModel):
        return prepared(structure, settings, report)
    if settings.place_hydrogens:
        structure = checkpoint.step(
            "hydrogen",
            partial(_with_hydrogens, experiment, structure, settings, report, checkpoint),
        )
        set_electron_form_factors(structure)
    model = with_instructions(RefinementModel.of(structure, settings.riding), settings.instructions)
    return prepared(model, settings, report)


def without_free_rows(
    experiment: Experiment, structure: xray.structure, settings: RefinementSettings
) -> tuple[Experiment, Experiment | None]:
    """The experiment to refine against, and the rows left out for R(free), None unless the settings ask for it.

    Raises
    ------
    Sorry
        The thickness law is a histogram, or the frames left out have no reflections of their own.
    """
    if settings.free_fraction is not None:
        return without_fraction(experiment, structure, settings.rules, settings.free_fraction)
    if settings.free_frames is None:
        return experiment, None
    if "free" in settings.bounds.shapes:  # a histogram could not be held where it was found
        raise Sorry("refinement.free_frames needs a thickness law with one parameter: leave out thickness.shape=free")
    return without_every(experiment, structure, settings.rules, settings.free_frames)


def _with_hydrogens(
    experiment: Experiment,
    structure: xray.structure,
    settings: RefinementSettings,
    report: Reporter,
    checkpoint: Checkpoint,
) -> xray.structure:
    """A structure with hydrogen added after a first dynamical refinement, as bond lengths tell how many atoms to add."""
    model = prepared(RefinementModel.of(structure, settings.riding), settings, SILENT)
    scattering = settings.scattering_model(settings.solver, experiment, model.structure)
    start = _coarse_start(scattering, model, report, checkpoint)
    run = LeastSquaresRun(scattering, start, Cycles(model, settings, report.behind("before hydrogen, "), checkpoint))
    run.on_some_frames("first")
    checkpoint.latest = None  # of a structure without hydrogen, which nobody asked for
    with one_step(report.progress("placement, hydrogen")):
        placed, unsure = place_hydrogens(model.structure)
    before, after = (atoms.element_selection("H").count(True) for atoms in (structure, placed))
    report.say(f"hydrogen placed by geometry: {after - before} atoms")
    if unsure:
        report.say(f"not clear from geometry, and left without hydrogen: {', '.join(unsure)}")
    return placed


def _coarse_start(
    scattering: ScatteringModel, model: RefinementModel, report: Reporter, checkpoint: Checkpoint
) -> Nuisance:
    """Nuisance parameters of the model at the coarse level, where a refinement begins."""
    progress = report.progress(f"{scattering.solver_name}, coarse")
    return checkpoint.step("coarse", partial(scattering.fit_coarse, model.structure, progress))


def _refine_theory(
    scattering: ScatteringModel,
    model: RefinementModel,
    settings: RefinementSettings,
    report: Reporter,
    checkpoint: Checkpoint,
) -> TheoryFit:
    """Fit of one theory, by the method that the settings ask for; the structure of the model is refined in place."""
    start = _coarse_start(scattering, model, report, checkpoint)
    report.say(f"{scattering.solver_name}: {start.describe()}")
    settings.check_method(model.structure)
    refine_by = refine_by_gradient if settings.uses_gradients(model.structure) else refine_by_least_squares
    return refine_by(scattering, start, model, settings, report, checkpoint)
