"""What a refinement moves, how, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cctbx import xray

from edtbx.fitting.loss import LOSSES
from edtbx_cctbx.constraints.occupancies import OccupancyGroup

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
class Schedule:
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
