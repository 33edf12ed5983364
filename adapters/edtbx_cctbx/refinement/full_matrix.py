"""Refinement by full-matrix least squares in stages: first and anisotropic cycles on some of the frames, then on all.

Fewer frames cost precision only. At a coarser sampling a structure would adapt to errors of the intensities, and thickness
and structure would settle together in a wrong minimum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from libtbx.utils import Sorry
from smtbx.refinement.least_squares import mainstream_shelx_weighting

from edtbx.arrays import FloatArray
from edtbx.execution.progress import Progress, Reporter
from edtbx.fitting.bounded_steps import bounded_step, corrected, curvature
from edtbx.fitting.nuisance_fit import fit_nuisance, misfit
from edtbx.fitting.sampling_levels import FOR_ROWS, LEVELS, ChosenLevel, Level
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx.intensities.thickness import mean_thickness
from edtbx.measurement.observations import Observations
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.constraints.determined import is_singular, undetermined
from edtbx_cctbx.refinement.checkpoint import Checkpoint, atoms_of, put_atoms
from edtbx_cctbx.refinement.compare import theory_fit
from edtbx_cctbx.refinement.model import RefinementModel, allows_anisotropic, make_anisotropic, usual_shifts
from edtbx_cctbx.refinement.results import LeastSquaresFit, TheoryFit
from edtbx_cctbx.refinement.settings import RefinementSettings
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls
from edtbx_cctbx.targets.scattering_model import ScatteringModel
from edtbx_cctbx.targets.target import Target
from edtbx_cctbx.targets.weighting import flat_weighting

_FIRST_CYCLES = 5
"""Most cycles of each stage on some of the frames."""

_FIRST_SHIFT = 2.0
"""Shifts in s.u.s that end these stages: going over to all frames shifts by as much."""

_FEWEST_ROWS = 30
"""Rows per parameter in the stages on some of the frames. With a dozen, urea fitted its 13 frames (R(obs) 0.072, 0.079 on
all) rather than the structure, and the cycles on all frames took longer."""

_ROWS_FOR_MATRIX = 30
"""Rows per parameter in the normal matrix: s.u.s come out 2 % too large, as (1 − 1/30)^(−1/2)."""

_FEWEST_FRAMES = 12
"""Least number of frames in the stages on some of them; half as many for the normal matrix."""

_THICKEST = 3.3
"""Greatest thickness, in mean thicknesses, when laws are compared: 3 for the law ``thin``, and some reserve."""

_LAW_STEPS = 60
"""Number of thickness steps when laws are compared."""

_LAW_EVERY = 3
"""Laws are compared once more on every third frame."""

_BETTER = 0.98
"""Ratio of misfits below which another law is taken: laws that fit alike would alternate."""

_SETTLED = 0.5
"""Shifts in s.u.s below which weights are chosen, and the scale of the loss is kept."""

_SMALL = 0.05
"""Shifts in s.u.s below which steps give no secants: gradient differences are near rounding errors."""

_FAR = 4.0
"""Shifts in s.u.s above which the design matrix is recomputed; secants correct it for smaller ones."""

_LAST = "all frames"

_START = 0.02
"""The a of the weights in the first cycles."""


def refine_by_least_squares(
    scattering: ScatteringModel,
    start: Nuisance,
    model: RefinementModel,
    settings: RefinementSettings,
    report: Reporter,
    checkpoint: Checkpoint,
) -> TheoryFit:
    """Fit of one theory by full-matrix least squares; the structure of the model is refined in place.

    A KeyboardInterrupt leaves the fit of the last complete cycle in ``checkpoint.latest``.

    Raises
    ------
    Sorry
        The reflections do not determine all parameters.
    """
    began = time.perf_counter()
    run = LeastSquaresRun(scattering, start, model, settings, report, checkpoint)
    run.roughly()
    run.chosen = checkpoint.step(
        "level",
        partial(
            scattering.choose_level,
            model.structure,
            run.nuisance,
            report.progress(f"{scattering.solver_name}, sampling"),
        ),
    )
    ls, shift = run.on_all_frames(run.chosen.level)
    return theory_fit(
        ls.observations.scattering,
        ls.observations.nuisance,
        model.structure,
        ls.cubes,
        run.chosen,
        time.perf_counter() - began,
        LeastSquaresFit.of(ls, shift, model=model),
    )


class Undetermined(Sorry):
    """The reflections do not determine all parameters; a restart would not help."""


@dataclass(slots=True, eq=False)
class LeastSquaresRun:
    """State of one refinement: the structure of the model and the nuisance parameters of all frames.

    ``chosen`` is the sampling level for all frames, once known; ``a`` that of the weights at the start of the next cycles;
    ``correction`` (P, P) is added to the normal matrix, for second derivatives that secants of the last cycles showed.
    """

    scattering: ScatteringModel
    nuisance: Nuisance
    model: RefinementModel
    settings: RefinementSettings
    report: Reporter
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    chosen: ChosenLevel | None = None
    a: float = _START
    correction: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.settings.weighting is not None:
            self.a = self.settings.weighting

    def roughly(self) -> None:
        """First stages: the model as given, the thickness law, then the anisotropic model on some of the frames."""
        self.on_some_frames("first")
        self.find_law()
        if allows_anisotropic(self.model.structure, self.scattering.experiment, self.settings):
            make_anisotropic(self.model, hydrogen=self.settings.anisotropic == "all")
            self.on_some_frames("anisotropic")

    def on_some_frames(self, stage: str) -> None:
        """A few cycles on some of the frames, at the coarsest level of sampling that results may have."""
        places = self._some_frames(self.scattering.observations, _FEWEST_ROWS, _FEWEST_FRAMES)
        some, start = self.scattering.at_level(LEVELS[0], self.nuisance, places)

        def cycles() -> _StageEnd:
            ls, _ = self._cycles(some, start, f"{stage}, {len(places)} frames")
            return _StageEnd(
                atoms=atoms_of(self.model.structure),
                nuisance=ls.observations.nuisance,
                a=self.a,
                correction=self.correction,
            )

        end = self.checkpoint.step(stage, cycles)
        put_atoms(self.model.structure, end.atoms)
        self.a, self.correction = end.a, end.correction
        self.nuisance = self.nuisance.updated(end.nuisance, places)

    def find_law(self) -> None:
        """Fit thickness law, thickness and spread to the structure on all frames."""

        def law() -> Nuisance:
            thick, _ = self._over_all_thicknesses()
            return thick.fit_nuisance(self.model.structure, self._law_progress)

        self.nuisance = self.checkpoint.step("law", law)

    def another_law(self, nuisance: Nuisance) -> bool:
        """Whether another thickness law fits a third of the frames clearly better; if so, it is taken."""
        places = list(range(0, len(self.scattering.observations.frame_ids), _LAW_EVERY))
        self.nuisance = nuisance
        better = self.checkpoint.step("another law", lambda: self._better_law(places))
        if better is None:
            return False
        self.nuisance = nuisance.updated(better, places)
        return True

    def _better_law(self, places: list[int]) -> Nuisance | None:
        some, nuisance = self._over_all_thicknesses(places)
        grid, cubes = some.forward.grid, some.cubes(self.model.structure, self._law_progress)
        best = fit_nuisance(cubes, grid, some.bounds)
        if best.shape == nuisance.shape:
            return None
        same = fit_nuisance(cubes, grid, replace(some.bounds, shapes=(nuisance.shape,)))
        return best if misfit(best, grid, cubes) <= _BETTER * misfit(same, grid, cubes) else None

    @property
    def _law_progress(self) -> Progress[FrameCube]:
        return self.report.progress(f"{self.scattering.solver_name}, thickness law")

    def _over_all_thicknesses(self, places: list[int] | None = None) -> tuple[ScatteringModel, Nuisance]:
        scattering, nuisance, bounds = self.scattering, self.nuisance, self.scattering.bounds
        mean = mean_thickness(nuisance.shape, nuisance.thickness)
        thickest = _THICKEST * mean if bounds.thickness is None else 1.2 * bounds.thickness
        sampling = scattering.accuracy.sampling(LEVELS[0], scattering.forward, nuisance, bounds)
        sampling = replace(sampling, thickness_max=thickest, thickness_step=thickest / _LAW_STEPS)
        return scattering.resampled(sampling, nuisance, places)

    def on_all_frames(self, level: Level) -> tuple[crystallographic_ls, float]:
        """All cycles on all frames, laws compared once more near the end; the equations and the last shift in s.u.s."""
        changed = False

        def law_changes(nuisance: Nuisance) -> bool:
            nonlocal changed
            changed = self.another_law(nuisance)
            return changed

        fine, start = self.scattering.at_level(level, self.nuisance)
        ls, shift = self._cycles(fine, start, _LAST, law_changes)
        if changed:
            shape = self.nuisance.shape
            self.report.say(f"{fine.solver_name}: another thickness law, {shape}, now suits better")
            fine, start = self.scattering.at_level(level, self.nuisance)
            ls, shift = self._cycles(fine, start, f"{_LAST}, {shape}")
        self.nuisance = ls.observations.nuisance
        return ls, shift

    def _rows_from(self, target: Target) -> Target:
        """A coarsely sampled target of enough frames for the normal matrix."""
        if target.forward.solver.approximation is not None:
            return target
        places = self._some_frames(target.observations, _ROWS_FOR_MATRIX, _FEWEST_FRAMES // 2)
        return Target.of(*target.scattering.at_level(FOR_ROWS, target.nuisance, places))

    def _some_frames(self, observations: Observations, rows: int, fewest: int) -> list[int]:
        """Indices of frames, evenly over the scan, with at least so many rows per parameter, and so many frames."""
        rp = self.model.reparametrisation(self.settings.refined)
        parameters = rp.jacobian_transpose_matching_grad_fc().n_rows
        return observations.evenly(rows * (parameters + 1), fewest)

    def _cycles(
        self,
        scattering: ScatteringModel,
        start: Nuisance,
        stage: str,
        stop: Callable[[Nuisance], bool] | None = None,
    ) -> tuple[crystallographic_ls, float]:
        """Cycles until shifts are small: the equations at the final structure, and the largest shift in s.u.s.

        Once shifts fall below half an s.u., weights are chosen, and ``stop`` is asked whether to end.
        """
        model, settings, solver = self.model, self.settings, scattering.solver_name
        target = Target.of(scattering, start)
        ls = crystallographic_ls(
            target,
            model.reparametrisation(settings.refined),
            restraints_manager=model.restraints,
            weighting_scheme=mainstream_shelx_weighting(a=self.a, b=0),
            loss=settings.loss,
            rows_from=self._rows_from(target),
            progress=self.report.progress(f"{solver}, {stage}"),
        )
        usual = usual_shifts(model.structure, ls.reparametrisation)
        last_stage = stage.startswith(_LAST)
        most, least = (settings.cycles, settings.shift_over_su) if last_stage else (_FIRST_CYCLES, _FIRST_SHIFT)
        weighted = settings.weighting is not None
        secants: list[tuple[FloatArray, FloatArray]] = []
        step = before = np.zeros(0)
        shift = 0.0
        for cycle in range(most + 1):
            built_up = False

            def build_up() -> dict[str, Any]:
                nonlocal built_up
                built_up = True
                ls.build_up()
                return ls.state()

            ls.restore(self.checkpoint.step(f"{stage}, cycle {cycle}", build_up))
            _solve(ls)
            right = ls.right_hand_side
            if len(step) and shift > _SMALL:
                secants.append((step, before - right))
            matrix = curvature(corrected(ls.normal_matrix, self.correction), secants)
            last, before = step, right
            shift = ls.shift_over_su(np.linalg.solve(matrix, right))
            step = bounded_step(matrix, right, usual, last)
            r_obs = target.statistics(to_numpy(ls.fc_sq.data())).r_obs
            self.report.say(
                f"{solver}: {stage}, cycle {cycle}, R(obs) {r_obs:.4f}, wR2 {ls.wR2():.4f}, "
                f"goodness of fit {ls.restrained_goof():.3f}, shift/s.u. {shift:.3f}, {target.nuisance.describe()}"
                f"{'' if built_up else ' (done before)'}"
            )
            if built_up:
                self.checkpoint.latest = self._fit_so_far(target, ls, shift, f"{stage}, cycle {cycle}")
            if cycle == most or (weighted and shift < least):
                break
            if shift < _SETTLED and stop is not None:
                if stop(target.nuisance):
                    break
                stop = None
            new_weights = shift < max(least, _SETTLED) and not weighted
            if new_weights:
                weighted, secants = True, []
                columns = (ls.fo_sq.data(), ls.fo_sq.sigmas(), ls.fc_sq.data())
                ls.weighting_scheme = flat_weighting(*(to_numpy(column) for column in columns))
            ls.renew_rows, ls.renew_sizes = shift > _FAR, shift > _SETTLED or new_weights
            ls.step_forward(step)
        self.a, self.correction = ls.weighting_scheme.a, matrix - ls.normal_matrix
        if not built_up:
            ls.complete()
        return ls, shift

    def _fit_so_far(self, target: Target, ls: crystallographic_ls, shift: float, where: str) -> Callable[[], TheoryFit]:
        """Function that makes the fit of this cycle later, from copies of the present state."""
        fit = partial(
            theory_fit,
            target.scattering,
            target.nuisance,
            self.model.structure.deep_copy_scatterers(),
            ls.cubes,
            self.chosen,
            self.checkpoint.seconds,
            LeastSquaresFit.of(ls, shift, model=self.model),
        )
        return lambda: replace(fit(), interrupted=where)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _StageEnd:
    """Result of a stage on some of the frames: atoms, nuisance parameters of these frames, weights, curvature."""

    atoms: list[tuple[Any, ...]]
    nuisance: Nuisance
    a: float
    correction: FloatArray | None


def _solve(ls: crystallographic_ls) -> None:
    singular = is_singular(ls.normal_matrix)
    try:
        if not singular:
            ls.solve()
    except RuntimeError:
        singular = True
    if singular:
        named = ", ".join(undetermined(ls.normal_matrix, ls.reparametrisation))
        raise Undetermined(
            f"{ls.n_equations} rows do not determine all of {ls.n_refined} parameters"
            f"{named and f' ({named})'}: take more frames, or fewer "
            "parameters (refinement.hydrogens=riding, refinement.anisotropic=none), or refinement.method=gradient"
        )
