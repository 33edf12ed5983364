"""Reduced normal equations of frames whose scales and centres have one prior over all of them.

A scale is then no longer the best one of its frame: ln scales and centres of all frames are eliminated together, in one
Schur complement with the inverse covariance of their prior in it. Costs O(F³ + F² P) beside the O(M P²) of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.fitting.least_squares import FrameEquations, ReducedEquations


@dataclass(frozen=True, eq=False, kw_only=True)
class JointEquations(ReducedEquations):
    """Reduced normal equations N δ = r of the P parameters of the structure, as :class:`ReducedEquations`.

    Attributes
    ----------
    frames : sequence of FrameEquations
        At the scales held.
    precision : (N, N)
        Inverse covariance of the prior of the ln scales (F,) and, if they are refined, the centres (F,) after them, in units
        of the weights.
    point : (N,)
        These now, as departures from what the prior expects.
    held : (N,) bool
        Those that stay where they are.
    """

    precision: FloatArray
    point: FloatArray
    held: BoolArray

    @cached_property
    def _sums(self) -> tuple[FloatArray, FloatArray, Any]:
        """Normal matrix (2 + P, 2 + P) and right-hand side, ln scales and centres eliminated; how these follow."""
        number, size = self._columns, len(self.point)
        matrix, right = np.zeros((number, number)), np.zeros(number)
        square, pull = self.precision.copy(), -self.precision @ self.point
        coupling, known = np.zeros((size, number)), np.zeros((size, number))
        for place, frame in enumerate(self.frames):
            own, rest, residual, places = *self._design(frame), frame.residual, self._places(place)
            square[np.ix_(places, places)] += own.T @ own
            pull[places] += own.T @ residual
            coupling[places, : rest.shape[1]] = own.T @ rest
            right[: rest.shape[1]] += residual @ rest
            if self._is_complete(frame):
                known[places] = coupling[places]
                matrix += rest.T @ rest
        square[self.held], square[:, self.held] = 0.0, 0.0
        square[self.held, self.held] = 1.0
        pull[self.held], coupling[self.held], known[self.held] = 0.0, 0.0, 0.0
        root = scipy.linalg.cho_factor(square)
        matrix = self._times * (matrix - known.T @ scipy.linalg.cho_solve(root, known))
        return matrix, right - coupling.T @ scipy.linalg.cho_solve(root, pull), (root, coupling, pull)

    def _design(self, frame: FrameEquations) -> tuple[FloatArray, FloatArray]:
        """Derivatives of √w k I by ln k and, if it is refined, the centre, (M, 1 or 2); by σ, thickness and structure."""
        design = frame.design.astype(float)
        own = np.column_stack([frame.scale * frame.calculated, design[:, :1]])
        return own[:, : len(self.point) // len(self.frames)], design[:, 1:]

    def _places(self, place: int) -> IntArray:
        """Where ln scale and centre of a frame stand among all."""
        return place + np.arange(0, len(self.point), len(self.frames))

    @property
    def seeds(self) -> list[FloatArray]:
        """Seeds s (M,) of all frames such that r = Σ s·∂I/∂p: an exact gradient then gives an exact right-hand side."""
        shared, shifts = self._shifts
        seeds = []
        for place, frame in enumerate(self.frames):
            own, rest = self._design(frame)
            left = frame.residual - own @ shifts[self._places(place)] - rest[:, :2] @ shared
            seeds.append(frame.seed(left))
        return seeds

    @property
    def nuisance_shifts(self) -> tuple[FloatArray, FloatArray]:
        """Gauss–Newton shifts (2,) of σ and thickness, and (F,) of the centres, the structure held."""
        shared, shifts = self._shifts
        number = len(self.frames)
        return shared, shifts[number:] if len(shifts) > number else np.zeros(number)

    @property
    def _shifts(self) -> tuple[FloatArray, FloatArray]:
        """Gauss–Newton shifts (2,) of σ and thickness, and (N,) of ln scales and centres, the structure held."""
        free, (inverse, _, right) = self._free, self._blocks
        root, coupling, pull = self._sums[2]
        shared = np.zeros(2)
        shared[free] = inverse @ right
        return shared, np.asarray(scipy.linalg.cho_solve(root, pull - coupling[:, :2] @ shared))

    def variances(self, covariance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Covariances (2, 2) of σ and thickness, and variances of centres (F,) and scales (F,)."""
        whole = self._with_shared(covariance)
        root, coupling, _ = self._sums[2]
        lever = scipy.linalg.cho_solve(root, coupling)
        alone = np.diag(scipy.linalg.cho_solve(root, np.eye(len(coupling))))
        found = np.where(self.held, 0.0, alone) + np.einsum("ni,ij,nj->n", lever, whole, lever)
        number = len(self.frames)
        scales = np.array([frame.scale for frame in self.frames]) ** 2 * found[:number]
        return whole[:2, :2], found[number:] if len(found) > number else np.zeros(number), scales
