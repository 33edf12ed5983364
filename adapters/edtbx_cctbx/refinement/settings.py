"""What a user decides: solver, accuracy, rows, and what may be fitted; and what is refined, how, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry

from edtbx.execution.progress import SILENT, Reporter
from edtbx.experiment import Experiment
from edtbx.fitting.loss import LOSSES
from edtbx.fitting.nuisance_fit import NuisanceBounds
from edtbx.fitting.sampling_levels import COARSE, DRAFT, LEVELS, ChosenLevel, Level, level_for
from edtbx.intensities.nuisance import Nuisance
from edtbx.intensities.sampling import Sampling
from edtbx.selection import SelectionRules
from edtbx.solvers.block import Accuracy, Solver
from edtbx.solvers.registry import installed_solvers
from edtbx_cctbx.constraints.occupancies import OccupancyGroup
from edtbx_cctbx.targets.target import DynamicalTarget

_FULL = 5.0
"""How much further than ``s_strong`` a solver reaches that folds no beams: 0.015 Å⁻¹ at the first level. On urea 0.019 errs
by 0.005 (R of amplitudes)."""

_UNFITTED = Nuisance(shape="slab", thickness=0.0, sigma=0.0, centres=np.zeros(0), scales=np.zeros(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a program was told: rows, beams, what may be fitted. Angles in radians, lengths in Å and Å⁻¹.

    ``tolerance`` is the numerical error of intensities allowed, in units of max(σ, 0.01 I_obs); ``s_max`` and
    ``s_strong`` override what follows from it. ``executor`` takes the frames in place of ``nproc`` threads
    (see :class:`DynamicalTarget`).
    """

    solver: str = "auto"
    tolerance: float = 0.15
    g_max: float | None = None
    s_max: float | None = None
    s_strong: float | None = None
    thickness: float | None = None
    spread: float | None = None
    choices: NuisanceBounds = field(default_factory=NuisanceBounds)
    rules: SelectionRules = field(default_factory=SelectionRules)
    nproc: int | None = None
    executor: Executor | None = None

    def target(self, solver: str, experiment: Experiment, structure: xray.structure) -> DynamicalTarget:
        """A target of the named solver, coarsely sampled, its nuisance parameters still to be fitted."""
        return DynamicalTarget(
            experiment,
            structure,
            solver=solver,
            thickness=self.thickness,
            spread=self.spread,
            choices=self.choices,
            rules=self.rules,
            sampling=replace(COARSE, accuracy=self.beams(COARSE.accuracy, created(solver))),
            g_max=self.g_max,
            nproc=self.nproc,
            executor=self.executor,
            nuisance=_UNFITTED,
        )

    def check_derivatives(self, purpose: str) -> None:
        """Refuse a solver without derivatives, which the purpose ("refinement needs") asks for."""
        if not created(self.solver).gives_derivatives:
            raise Sorry(f"the solver {self.solver} gives no derivatives, which {purpose}: take solver.name=auto")

    def beams(self, accuracy: Accuracy, solver: Solver) -> Accuracy:
        """The limits on beams with what was set by hand; a solver that folds none takes more of them in full."""
        strong = self.s_strong or accuracy.s_strong
        most = accuracy.s_max if solver.folds else _FULL * strong
        return replace(accuracy, s_strong=strong, s_max=self.s_max or most)

    def level_for(
        self,
        target: DynamicalTarget,
        structure: xray.structure,
        nuisance: Nuisance,
        report: Reporter = SILENT,
    ) -> ChosenLevel:
        """The level of sampling that the tolerance asks for."""
        return level_for(
            target.forward,
            target.structure_factors(structure),
            nuisance,
            target.choices,
            self.tolerance,
            [self._with_beams(level, target) for level in LEVELS],
            report.progress(f"{target.solver_name}, sampling"),
        )

    def draft_of(self, target: DynamicalTarget) -> DynamicalTarget:
        """The target at the level at which atoms move first."""
        return target.resampled(self.sampling(target, DRAFT))

    def sampling(self, target: DynamicalTarget, level: Level) -> Sampling:
        """A level for what the target knows of thickness and spread, and the beams that its solver needs."""
        return self._with_beams(level, target).sampling(target.nuisance, self.choices, target.forward.g_max)

    def _with_beams(self, level: Level, target: DynamicalTarget) -> Level:
        return replace(level, accuracy=self.beams(level.accuracy, target.forward.solver))


def created(solver: str) -> Solver:
    """The solver of that name.

    Raises
    ------
    Sorry
        There is none.
    """
    try:
        return installed_solvers().create(solver)
    except ValueError as error:
        raise Sorry(str(error)) from error


_CHOICES = {
    "method": ("auto", "least_squares", "gradient"),
    "anisotropic": ("auto", "all", "none"),
    "loss": tuple(LOSSES),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """Which kinds of parameters move; occupancies only as groups of them are named."""

    sites: bool = True
    displacements: bool = True
    occupancies: tuple[OccupancyGroup, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.occupancies, bool | str) or not all(isinstance(g, OccupancyGroup) for g in self.occupancies):
            raise ValueError(f"occupancies must be a tuple of OccupancyGroup, got {self.occupancies!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinementSettings:
    """What moves, how, and for how long.

    ``method`` is "least_squares", "gradient", or "auto": least squares up to ``most_parameters``. ``anisotropic`` is "auto"
    (atoms other than H where there are at least ``rows_per_parameter`` rows a parameter), "all" or "none". ``cycles``
    bounds the cycles at the fine level; least squares ends where no shift exceeds ``shift_over_su`` s.u.s, the gradient
    minimiser where no site moves by more than ``site_tolerance`` in Å. ``weighting`` is the a of SHELX's weights; None
    chooses it by a flat analysis of variance; ``loss`` is one of :data:`edtbx.fitting.loss.LOSSES`.
    ``place_hydrogens`` adds hydrogen that is missing, ``riding`` lets it, and what is there, ride on its parents.
    ``instructions`` are restraints as SHELX writes them, for a model that is no :class:`RefinementModel` yet.
    Every ``free_frames``-th frame is left out, and serves R(free).
    """

    refined: Refined = field(default_factory=Refined)
    method: str = "auto"
    most_parameters: int = 600
    anisotropic: str = "auto"
    rows_per_parameter: float = 10.0
    cycles: int = 10
    shift_over_su: float = 0.01
    site_tolerance: float = 0.002
    weighting: float | None = 0.01
    loss: str = "cauchy"
    place_hydrogens: bool = False
    riding: bool = True
    instructions: Sequence[str] = ()
    free_frames: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        for name in ("most_parameters", "rows_per_parameter", "shift_over_su", "site_tolerance", "cycles"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be > 0, got {value!r}")
        if self.weighting is not None and not 0.0 <= self.weighting <= 1.0:
            raise ValueError(f"weighting must be None or 0 to 1, got {self.weighting!r}")
        if self.free_frames is not None and self.free_frames < 2:
            raise ValueError(f"free_frames must be None or >= 2, got {self.free_frames!r}")
        if isinstance(self.instructions, str):
            raise ValueError(
                f"instructions must be a sequence of lines, got one line {self.instructions!r}: put it in a list"
            )

    def uses_gradients(self, structure: xray.structure) -> bool:
        """Whether the gradient minimiser refines a structure, not least squares."""
        many = len(structure.scatterers()) * 9 > self.most_parameters
        return self.method == "gradient" or (self.method == "auto" and many)
