"""Iterations of least squares: bounded steps, curvature from secants, and drafts corrected by passes over the observations.

With a draft, steps are those of the draft until they are a small part of what the last pass over the observations asked
for; another pass then corrects the draft, and says how far the minimum still is (defect correction). Each such pass brings
the structure nearer by the relative error of the draft's derivatives, some ten times.

References
----------
H. J. Stetter, Numer. Math. 29, 425 (1978), doi:10.1007/BF01432879 (defect correction).
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

_FIRST = 1.0
"""Shifts in s.u.s of the draft below which the first pass over the observations is due: their sampling shifts by as much."""

_FALLS = 0.8
"""Part of the shift before to which that of a draft must fall; a draft that does not leads astray, and a pass is due."""

_PART = 0.15
"""The part of the last shift that the observations asked for below which the next pass over them is due."""

_MOST_DRAFTS = 6
"""Most drafts between two such passes."""


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
    passes, drafts, all_drafts : int
        Passes over the observations so far, drafts since the last, and drafts in all.
    """

    ls: crystallographic_ls
    usual: FloatArray
    correction: FloatArray | None
    least: float
    shift: float = math.inf
    passes: int = 0
    drafts: int = 0
    all_drafts: int = 0
    _matrix: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    _before: FloatArray = field(default_factory=lambda: np.zeros(0))
    _step: FloatArray = field(default_factory=lambda: np.zeros(0))
    _comparable: bool = False
    _secants: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    _asked: float = math.inf
    _asked_before: float = math.inf

    def build_up(self) -> dict[str, Any]:
        """Build the equations at the current structure, of the draft or, when due, of the observations; their state."""
        self.ls.data.drafts = not self.ends_with_the_next
        self.ls.build_up()
        if self.ls.is_draft and self._pass_is_due():
            self.ls.correct()
        return self.ls.state()

    @property
    def ends_with_the_next(self) -> bool:
        """Whether shifts have fallen from pass to pass so fast that the next, without drafts before, will be the last."""
        known = not self.drafts and math.isfinite(self._asked_before)
        return known and self._asked**2 < self.least * self._asked_before

    def _pass_is_due(self) -> bool:
        shift = self._curvature_and_shift(self._with_newest())[1]
        if math.isinf(self._asked):
            return shift < _FIRST or self.drafts >= _MOST_DRAFTS
        leads_astray = self.drafts > 0 and shift > _FALLS * self.shift
        return leads_astray or shift < max(_PART * self._asked, 0.5 * self.least) or self.drafts >= _MOST_DRAFTS

    def take(self) -> None:
        """Find the shift and the next step of the equations at hand."""
        if self.ls.is_draft or self.ls.data.draft is None:  # else the right-hand side has changed by more than the step
            self._secants = self._with_newest()
        self._matrix, self.shift = self._curvature_and_shift(self._secants)
        self._before, self._comparable = self.ls.right_hand_side, True
        self._step = bounded_step(self._matrix, self._before, self.usual, self._step)
        if self.ls.is_draft:
            self.drafts, self.all_drafts = self.drafts + 1, self.all_drafts + 1
        else:
            self.passes, self.drafts = self.passes + 1, 0
            self._asked, self._asked_before = self.shift, self._asked

    def _with_newest(self) -> list[tuple[FloatArray, FloatArray]]:
        """Secants, with that of the last step unless it was too short."""
        if not self._comparable or self.shift <= _SMALL:
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
        self._secants, self._comparable, self._asked_before = [], False, math.inf

    def step_forward(self) -> None:
        """Shift the structure by a bounded step."""
        self.ls.step_forward(self._step)
