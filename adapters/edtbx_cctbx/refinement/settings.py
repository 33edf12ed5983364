"""Settings of fits (solver, accuracy, rows, bounds) and of refinements (parameters, method, convergence)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from cctbx import xray
from libtbx.utils import Sorry

from edtbx.checks import expect_kind, expect_positive
from edtbx.fitting.loss import LOSSES
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.levels.coarse_to_fine import AccuracySettings
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.selection import SelectionRules
from edtbx.solvers.block import Solver
from edtbx.solvers.registry import installed_solvers
from edtbx_cctbx.constraints.occupancies import OccupancyGroup
from edtbx_cctbx.targets.scattering_model import ScatteringModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a fit: solver, accuracy, beams, selection of rows, bounds, and executor.

    Attributes
    ----------
    solver : str
        Of the dynamical theory, by name.
    tolerance, s_max, s_strong
        As in :class:`edtbx.levels.coarse_to_fine.AccuracySettings`.
    g_max, nproc, executor
        As in :class:`edtbx_cctbx.DynamicalTarget`.
    bounds : NuisanceBounds
        Which nuisance parameters are fitted, and in which bounds; angles in radians, thickness in Å.
    learn : bool
        Whether scales and centres of frames have priors over the scan that their evidence sets.
    rules : SelectionRules
        Selection of rows.

    Raises
    ------
    TypeError, ValueError
        One of them is of the wrong kind or out of range.
    """

    solver: str = "auto"
    tolerance: float = 0.1
    g_max: float | None = None
    s_max: float | None = None
    s_strong: float | None = None
    bounds: NuisanceBounds = field(default_factory=NuisanceBounds)
    learn: bool = False
    rules: SelectionRules = field(default_factory=SelectionRules)
    nproc: int | None = None
    executor: Executor | None = None

    def __post_init__(self) -> None:
        expect_kind(self.solver, str, "solver")
        expect_kind(self.bounds, NuisanceBounds, "bounds")
        expect_kind(self.rules, SelectionRules, "rules")
        _ = self.accuracy
        if self.g_max is not None:
            expect_positive(self.g_max, "g_max", "1/Å")
        if self.nproc is not None and expect_kind(self.nproc, int, "nproc") < 1:
            raise ValueError(f"nproc must be at least 1, got {self.nproc}")

    @property
    def accuracy(self) -> AccuracySettings:
        """Allowed numerical error of intensities, and limits on beams."""
        return AccuracySettings(tolerance=self.tolerance, s_max=self.s_max, s_strong=self.s_strong)

    def scattering_model(self, solver: str, experiment: Experiment, structure: xray.structure) -> ScatteringModel:
        """A coarsely sampled scattering model with the named solver.

        Raises
        ------
        TypeError, Sorry
            An argument is of the wrong kind, nobody knows the solver, or no reflection is left.
        """
        return ScatteringModel.of(
            experiment,
            structure,
            solver=solver,
            bounds=self.bounds,
            rules=self.rules,
            accuracy=self.accuracy,
            g_max=self.g_max,
            nproc=self.nproc,
            executor=self.executor,
        )

    def check_derivatives(self, purpose: str) -> None:
        """Refuse a solver without derivatives.

        Parameters
        ----------
        purpose : str
            Named in the message, such as "refinement needs".

        Raises
        ------
        Sorry
            The solver gives no derivatives.
        """
        if not created(self.solver).gives_derivatives:
            raise Sorry(f"the solver {self.solver} gives no derivatives, which {purpose}: take solver.name=auto")


def created(solver: str) -> Solver:
    """A solver by its registered name.

    Raises
    ------
    Sorry
        The registry cannot make a solver of this name.
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
    """Kinds of parameters that are refined; occupancies only of the groups named."""

    sites: bool = True
    displacements: bool = True
    occupancies: tuple[OccupancyGroup, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.occupancies, bool | str) or not all(isinstance(g, OccupancyGroup) for g in self.occupancies):
            raise ValueError(f"occupancies must be a tuple of OccupancyGroup, got {self.occupancies!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinementSettings(Settings):
    """Settings of a fit, and of a refinement: parameters, method, and convergence.

    Attributes
    ----------
    solver, tolerance, bounds, ...
        As in :class:`Settings`.
    refined : Refined
        Kinds of parameters that are refined.
    method : str
        "least_squares", "gradient", or "auto": least squares up to ``most_parameters``, 9 counted for each atom.
    anisotropic : str
        "auto" (atoms other than H where there are at least ``rows_per_parameter`` rows a parameter), "all" or "none".
    cycles : int
        Most cycles at the fine level.
    shift_over_su, site_tolerance : float
        Least squares ends where no shift exceeds the former in s.u.s, the gradient minimiser where no site moves by more
        than the latter in Å.
    weighting : float, optional
        The a of SHELX's weights; None chooses it by a flat analysis of variance.
    loss : str
        One of :data:`edtbx.fitting.loss.LOSSES`.
    place_hydrogens, riding : bool
        Whether missing hydrogen is added, and whether hydrogen rides on its parents.
    instructions : sequence of str
        Restraints in the format of SHELX, for a model that is no :class:`RefinementModel` yet.
    free_frames : int, optional
        Every n-th frame is left out of the refinement, for R(free).
    free_fraction : float, optional
        Part of the indices, with their equivalents and repeats, that is left out for R(free) in place of frames.

    Raises
    ------
    ValueError
        One of them is out of range.
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
    free_fraction: float | None = None

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
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
        if self.free_fraction is not None and not 0.0 < self.free_fraction <= 0.5:
            raise ValueError(f"free_fraction must be None or > 0 and <= 0.5, got {self.free_fraction!r}")
        if self.free_fraction is not None and self.free_frames is not None:
            raise ValueError("give free_frames or free_fraction, not both: R(free) is of one of them")
        if isinstance(self.instructions, str):
            raise ValueError(
                f"instructions must be a sequence of lines, got one line {self.instructions!r}: put it in a list"
            )

    def uses_gradients(self, structure: xray.structure) -> bool:
        """Whether a structure is refined by the gradient minimiser rather than by least squares."""
        many = len(structure.scatterers()) * 9 > self.most_parameters
        return self.method == "gradient" or (self.method == "auto" and many)

    def check_method(self, structure: xray.structure) -> None:
        """Refuse what the method for a structure does not do.

        Raises
        ------
        Sorry
            Priors of frames are to be learnt by the gradient minimiser.
        """
        if self.learn and self.uses_gradients(structure):
            raise Sorry("learn=True needs least squares: give refinement.method=least_squares, or leave learn out")
