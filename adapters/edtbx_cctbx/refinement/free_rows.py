"""R(free): R factors of frames, or of indices, that are left out of a refinement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry

from edtbx.crystal.left_out import fraction_of
from edtbx.execution.progress import SILENT, Reporter
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.observations import measurements
from edtbx.measurement.selection import SelectionRules
from edtbx.measurement.statistics import Statistics
from edtbx_cctbx.indexing.model_cell import with_model_cell
from edtbx_cctbx.refinement.compare import fit_theory
from edtbx_cctbx.refinement.results import LeftOut, TheoryFit
from edtbx_cctbx.refinement.settings import RefinementSettings, Settings
from edtbx_cctbx.targets.selected_rows import left_out_together, select_rows


def without_every(
    experiment: Experiment, structure: xray.structure, rules: SelectionRules, every: int
) -> tuple[Experiment, Experiment]:
    """An experiment without every n-th of its frames, and these frames with the measurements that only they have.

    Overlapping frames of a rotation list one integrated intensity several times: a measurement that a frame left out shares
    with one that is kept does not test the refinement.

    Raises
    ------
    Sorry
        One of the two would have no reflections.
    """
    ids = [frame.id for frame in experiment.frames]
    out = ids[(every - 1) // 2 :: every]
    rows = experiment.reflections
    used = select_rows(with_model_cell(experiment, structure), structure, rules).used
    free = np.isin(rows.frame_id, out)
    number = measurements(rows)
    alone = free & used & ~np.isin(number, number[used & ~free])
    if not alone.any() or len(out) == len(ids):
        raise Sorry(
            f"refinement.free_frames={every}: the {len(out)} frames left out of {len(ids)} have no reflections of their "
            "own: take a smaller number, or none"
        )
    left_out = replace(experiment.select_frames(out), reflections=rows.select(np.flatnonzero(alone)))
    return experiment.select_frames([frame_id for frame_id in ids if frame_id not in out]), left_out


def without_fraction(
    experiment: Experiment, structure: xray.structure, rules: SelectionRules, fraction: float
) -> tuple[Experiment, Experiment]:
    """An experiment without a part of its indices, with their equivalents, Friedel mates and repeats, and these alone.

    Raises
    ------
    Sorry
        One of the two would have no reflections.
    """
    rows = experiment.reflections
    used = select_rows(with_model_cell(experiment, structure), structure, rules).used
    numbers = left_out_together(structure, rows.hkl)
    free = np.zeros(len(rows), dtype=bool)
    free[used] = fraction_of(numbers[used], fraction)
    free = np.isin(numbers, numbers[free])
    if not (used & free).any() or not (used & ~free).any():
        raise Sorry(
            f"refinement.free_fraction={fraction:g} leaves out {np.count_nonzero(used & free)} of "
            f"{np.count_nonzero(used)} reflections: take a larger one, or none"
        )
    kept, left_out = (rows.select(np.flatnonzero(some)) for some in (~free, used & free))
    return replace(experiment, reflections=kept), replace(experiment, reflections=left_out)


def judged(left_out: Experiment, fit: TheoryFit, settings: RefinementSettings, report: Reporter = SILENT) -> LeftOut:
    """R factors of what the settings left out of a refinement."""
    if settings.free_frames is None:
        statistics, of = foretold_statistics(left_out, fit, settings, report), "indices left out of the refinement"
    else:
        statistics, of = free_statistics(left_out, fit, settings, report), "frames left out of the refinement"
    return LeftOut(statistics=statistics, of=of)


def free_statistics(left_out: Experiment, fit: TheoryFit, settings: Settings, report: Reporter = SILENT) -> Statistics:
    """R factors of the frames left out, with structure, thickness, its law and spread of the fit.

    Scales and centres, which belong to the frames, are fitted.
    """
    nuisance = fit.nuisance
    held = replace(
        settings,
        solver=fit.solver,
        bounds=replace(settings.bounds, shapes=(nuisance.shape,), thickness=nuisance.thickness, sigma=nuisance.sigma),
        rules=replace(settings.rules, min_reflections=1),
    )
    scattering = held.scattering_model(fit.solver, left_out, fit.structure)
    start = scattering.fit_coarse(fit.structure, report.progress(f"{fit.solver}, coarse"))
    return fit_theory(scattering, start, fit.structure, report).statistics


def foretold_statistics(
    left_out: Experiment, fit: TheoryFit, settings: Settings, report: Reporter = SILENT
) -> Statistics:
    """R factors of the indices left out, with structure and all nuisance parameters of the fit."""
    every = fit.observations.frame_ids
    own = left_out.select_frames([frame.id for frame in left_out.frames if frame.id in every])
    held = replace(settings, rules=replace(settings.rules, min_reflections=1))
    scattering = held.scattering_model(fit.solver, own, fit.structure)
    nuisance = fit.nuisance.at([every.index(frame_id) for frame_id in scattering.observations.frame_ids])
    chosen = scattering.choose_level(fit.structure, nuisance, report.progress(f"{fit.solver}, level"))
    fine, nuisance = scattering.at_level(chosen.level, nuisance)
    return fine.statistics(fine.i_calc(fit.structure, nuisance))
