"""Iterations of least squares: bounded steps, curvature from secants, and drafts before passes over the observations.

With a draft, the first steps are those of the draft, until they are as small as what its sampling shifts. From there on
every step is that of the observations: drafts between, corrected to their minimum, took as long as the passes they spared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.fitting.bounded_steps import bounded_step, corrected, curvature
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls

_SMALL = 0.05
"""Shifts in s.u.s below which steps give no secants: gradient differences are near rounding errors."""

_NEAR = 1.0
"""Shifts in s.u.s of the draft below which the observations take over: the sampling of the draft shifts by as much."""

_MOST_DRAFTS = 6
"""Most drafts."""


@dataclass(slots=True, eq=False)
class Iterations:
    """State of the iterations: the equations, and what former steps have told of the curvature.

    Attributes
    ----------
    ls : crystallographic_ls
    usual : (P,)
        Usual shifts of the parameters.
    correction : (P, P) or None
        Added to the normal matrix, for second derivatives that are known from before.
    least : float
        Shift in s.u.s that ends the iterations.
    shift : float
        Largest shift in s.u.s that the equations at hand ask for.
    passes, drafts : int
        Passes over the observations so far, and drafts before them.
    """

    ls: crystallographic_ls
    usual: FloatArray
    correction: FloatArray | None
    least: float
    shift: float = math.inf
    passes: int = 0
    drafts: int = 0
    _matrix: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    _before: FloatArray = field(default_factory=lambda: np.zeros(0))
    _step: FloatArray = field(default_factory=lambda: np.zeros(0))
    _is_draft_before: bool | None = None
    _secants: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)

    def build_up(self) -> dict[str, Any]:
        """Build the equations at the current structure, of the draft or, when due, of the observations; their state."""
        self.ls.build_up()
        if self.ls.is_draft and self._draft_has_done():
            self.ls.correct()
        return self.ls.state()

    def _draft_has_done(self) -> bool:
        return self.drafts >= _MOST_DRAFTS or self._curvature_and_shift(self._with_newest())[1] < _NEAR

    def take(self) -> None:
        """Find the shift and the next step of the equations at hand."""
        self._secants = self._with_newest()
        self._matrix, self.shift = self._curvature_and_shift(self._secants)
        self._before, self._is_draft_before = self.ls.right_hand_side, self.ls.is_draft
        self._step = bounded_step(self._matrix, self._before, self.usual, self._step)
        if self.ls.is_draft:
            self.drafts += 1
        else:
            self.passes += 1

    def _with_newest(self) -> list[tuple[FloatArray, FloatArray]]:
        """Secants, with that of the last step unless it was too short, or led from a draft to the observations."""
        if self._is_draft_before is not self.ls.is_draft or self.shift <= _SMALL:
            return self._secants
        return [*self._secants, (self._step, self._before - self.ls.right_hand_side)]

    def _curvature_and_shift(self, secants: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, float]:
        matrix = curvature(corrected(self.ls.normal_matrix, self.correction), secants)
        return matrix, self.ls.shift_over_su(np.linalg.solve(matrix, self.ls.right_hand_side))

    @property
    def is_at_end(self) -> bool:
        """Whether the equations of the observations ask for no larger shift than the least."""
        return self.shift < self.least and not self.ls.is_draft

    @property
    def learnt(self) -> FloatArray:
        """What the secants add to the normal matrix (P, P)."""
        return self._matrix - self.ls.normal_matrix

    def forget(self) -> None:
        """Drop the secants: the objective changes."""
        self._secants, self._is_draft_before = [], None

    def step_forward(self) -> None:
        """Shift the structure by a bounded step."""
        self.ls.step_forward(self._step)
