"""Refinement by full-matrix least squares in stages: first and anisotropic cycles on some of the frames, then on all.

Fewer frames cost precision only. At a coarser sampling a structure would adapt to errors of the intensities, and thickness
and structure would settle together in a wrong minimum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edtbx.arrays import FloatArray
from edtbx.crystal.law import fit_law
from edtbx.execution.progress import Progress, Reporter
from edtbx.fitting.nuisance_fit import polish_nuisance
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx.intensities.sampling import Sampling
from edtbx.intensities.thickness import mean_thickness
from edtbx.levels.sampling_levels import FIRST, ROOM_FOR_TRENDS, USUAL, Level, coarser
from edtbx_cctbx.io.checkpoint import Checkpoint, atoms_of, put_atoms
from edtbx_cctbx.refinement.compare import theory_fit
from edtbx_cctbx.refinement.cycles import Cycles
from edtbx_cctbx.refinement.model import RefinementModel, allows_anisotropic, make_anisotropic
from edtbx_cctbx.refinement.results import LeastSquaresFit, TheoryFit
from edtbx_cctbx.refinement.settings import RefinementSettings
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls
from edtbx_cctbx.targets.scattering_model import ScatteringModel

_FEWEST_ROWS = 30
"""Rows per parameter in the stages on some of the frames. With a dozen, urea fitted its 13 frames (R(obs) 0.072, 0.079 on
all) rather than the structure, and the cycles on all frames took longer."""

_COARSER = 2
"""Levels that a draft is coarser by: from the third level on it then takes a third of the time."""

_FEWEST_FRAMES = 12
"""Least number of frames in the stages on some of them."""

_THICKEST = 3.3
"""Greatest thickness, in mean thicknesses, when laws are compared: 3 for the law ``thin``, and some reserve."""

_LAW_STEPS = 60
"""Number of thickness steps when laws are compared."""

_ROWS_FOR_LAW = 2000
"""Rows on which laws are compared."""

_SPARED = 0.8
"""Part of the nodes to which settled centres must bring them down: they cost a sum over the nodes of all frames."""

_LAST = "all frames"


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
    run = LeastSquaresRun(scattering, start, Cycles(model, settings, report, checkpoint))
    run.roughly()
    chosen = run.cycles.chosen = checkpoint.step(
        "level",
        partial(
            scattering.choose_level,
            model.structure,
            run.nuisance,
            report.progress(f"{scattering.solver_name}, level"),
        ),
    )
    report.say(
        f"{scattering.solver_name}: sampling with an error of {chosen.error:.3f}, beside a misfit of {chosen.misfit:.2f} "
        "(both in max(σ, 1 % I))"
    )
    ls, shift = run.on_all_frames(chosen.level)
    return theory_fit(
        ls.observations.scattering,
        ls.observations.nuisance,
        model.structure,
        ls.cubes,
        chosen,
        time.perf_counter() - began,
        least_squares=LeastSquaresFit.of(ls, shift, model=model),
        learnt=ls.data.learnt,
    )


@dataclass(slots=True, eq=False)
class LeastSquaresRun:
    """State of one refinement: the structure of the model and the nuisance parameters of all frames."""

    scattering: ScatteringModel
    nuisance: Nuisance
    cycles: Cycles

    @property
    def model(self) -> RefinementModel:
        """The model that is refined."""
        return self.cycles.model

    @property
    def report(self) -> Reporter:
        """Where progress is shown."""
        return self.cycles.report

    @property
    def checkpoint(self) -> Checkpoint:
        """Where results are kept."""
        return self.cycles.checkpoint

    def roughly(self) -> None:
        """First stages: the model as given, the thickness law, then the anisotropic model on some of the frames."""
        self.on_some_frames("first")
        self.find_law()
        if allows_anisotropic(self.model.structure, self.scattering.experiment, self.cycles.settings):
            make_anisotropic(self.model, hydrogen=self.cycles.settings.anisotropic == "all")
            self.on_some_frames("anisotropic")
            self.find_law("law once more")

    def on_some_frames(self, stage: str) -> None:
        """A few cycles on some of the frames, coarsely sampled."""
        places = self.cycles.some_frames(self.scattering.observations, _FEWEST_ROWS, _FEWEST_FRAMES)
        some, start = self.scattering.at_level(FIRST, self.nuisance, places)

        def cycles() -> _StageEnd:
            ls, _ = self.cycles.run(some, start, f"{stage}, {len(places)} frames", to_the_end=False)
            return _StageEnd(
                atoms=atoms_of(self.model.structure),
                nuisance=ls.observations.nuisance,
                a=self.cycles.a,
                correction=self.cycles.correction,
            )

        end = self.checkpoint.step(stage, cycles)
        put_atoms(self.model.structure, end.atoms)
        self.cycles.a, self.cycles.correction = end.a, end.correction
        self.nuisance = self.nuisance.updated(end.nuisance, places)

    def find_law(self, step: str = "law") -> None:
        """Fit thickness law, thickness and spread to the structure on some of the frames."""
        places = self._frames_for_law

        def law() -> Nuisance:
            thick, _ = self._over_all_thicknesses(places)
            return thick.fit_nuisance(self.model.structure, self._progress("law"))

        self.nuisance = self.nuisance.updated(self.checkpoint.step(step, law), places)

    def another_law(self, nuisance: Nuisance) -> bool:
        """Whether another thickness law fits some of the frames clearly better; if so, it is taken."""
        places = self._frames_for_law
        self.nuisance = nuisance
        better = self.checkpoint.step("another law", lambda: self._better_law(places))
        if better is None:
            return False
        self.nuisance = nuisance.updated(better, places)
        return True

    @property
    def _frames_for_law(self) -> list[int]:
        return self.scattering.observations.evenly(_ROWS_FOR_LAW, _FEWEST_FRAMES)

    def _better_law(self, places: list[int]) -> Nuisance | None:
        some, nuisance = self._over_all_thicknesses(places)
        grid, cubes = some.forward.grid, some.cubes(self.model.structure, self._progress("law"))
        best = fit_law(cubes, grid, some.bounds, some.observations.numbers, in_use=nuisance.shape)
        return None if best.shape == nuisance.shape else best

    def _progress(self, step: str) -> Progress[FrameCube]:
        return self.report.progress(f"{self.scattering.solver_name}, {step}")

    def _sampling(self, level: Level) -> Sampling:
        """The sampling of a level for the present thickness and spread."""
        scattering = self.scattering
        return scattering.accuracy.sampling(level, scattering.forward, self.nuisance, scattering.bounds)

    def _over_all_thicknesses(self, places: list[int]) -> tuple[ScatteringModel, Nuisance]:
        scattering, nuisance, bounds = self.scattering, self.nuisance, self.scattering.bounds
        mean = mean_thickness(nuisance.shape, nuisance.thickness)
        thickest = _THICKEST * mean if bounds.thickness is None else 1.2 * bounds.thickness
        sampling = replace(self._sampling(USUAL), thickness_max=thickest, thickness_step=thickest / _LAW_STEPS)
        return scattering.resampled(sampling, nuisance, places)

    def on_all_frames(self, level: Level) -> tuple[crystallographic_ls, float]:
        """All cycles on all frames, laws compared once more near the end; the equations and the last shift in s.u.s."""
        changed = False
        level = self._settled(level)

        def law_changes(nuisance: Nuisance) -> bool:
            nonlocal changed
            changed = self.another_law(nuisance)
            return changed

        ls, shift = self._drafted(level, _LAST, law_changes)
        if changed:
            shape = self.nuisance.shape
            self.report.say(f"{self.scattering.solver_name}: another thickness law, {shape}, now suits better")
            ls, shift = self._drafted(level, f"{_LAST}, {shape}")
        self.nuisance = ls.observations.nuisance
        return ls, shift

    def _settled(self, level: Level) -> Level:
        """The level with centres and spread settled at it first, where that spares many of the nodes.

        Where trends are learnt, they are before the grid of thicknesses is laid out.
        """
        settled, learn = replace(level, settled=True), self.cycles.settings.learn
        nodes, fewer = (len(self._sampling(one).nodes) for one in (level, settled))
        spared = fewer <= _SPARED * nodes
        if not (spared or learn):
            return level

        def settle() -> Nuisance:
            first = replace(level, room=ROOM_FOR_TRENDS) if learn else level
            fine, start = self.scattering.at_level(first, self.nuisance)
            cubes = fine.cubes(self.model.structure, self._progress("centres"))
            nuisance = polish_nuisance(cubes, fine.forward.grid, fine.bounds, start)
            return fine.learn(cubes, nuisance).nuisance if learn else nuisance

        self.nuisance = self.checkpoint.step("centres", settle)
        return settled if spared else level

    def _drafted(
        self, level: Level, stage: str, stop: Callable[[Nuisance], bool] | None = None
    ) -> tuple[crystallographic_ls, float]:
        """Cycles on all frames at a level, after drafts where waves take time."""
        fine, start = self.scattering.at_level(level, self.nuisance)
        cheap = fine.forward.solver.approximation is not None
        sketch = None if cheap else coarser(level, _COARSER)
        draft = None if sketch is None else self.scattering.at_level(sketch, self.nuisance)[0]
        return self.cycles.run(fine, start, stage, draft=draft, stop=stop)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _StageEnd:
    """Result of a stage on some of the frames: atoms, nuisance parameters of these frames, weights, curvature."""

    atoms: list[tuple[Any, ...]]
    nuisance: Nuisance
    a: float
    correction: FloatArray | None
