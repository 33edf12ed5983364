"""Result of one evaluation of a target, as cctbx's minimisers take it."""

from __future__ import annotations

from dataclasses import dataclass

from cctbx.array_family import flex


@dataclass(frozen=True, slots=True, eq=False)
class TargetResult:
    """Value, derivatives and scale of one evaluation, with the interface that cctbx's minimiser expects."""

    value: float
    gradients: flex.complex_double | None
    scale: float

    def target(self) -> float:
        """Value of the target."""
        return self.value

    def derivatives(self) -> flex.complex_double:
        """∂T/∂A + i ∂T/∂B for every structure factor of ``f_obs()``."""
        return self.gradients

    def scale_factor(self) -> float:
        """Mean scale of the frames."""
        return self.scale
