"""Reduced normal equations of frames whose own parameters have one prior over all of them.

A scale is then no longer the best one of its frame: ln scales, centres and trends over the scan are eliminated together, in
one Schur complement with the inverse covariance of their prior in it. Costs O(F³ + F² P) beside the O(M P²) of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.fitting.least_squares import ReducedEquations


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PriorOfFrames:
    """Prior of N parameters of frames, of which V bear on each of F frames.

    Attributes
    ----------
    places : (F, V) int
        Where the parameters of each frame stand among all, ln scale first.
    levers : (F, V − 1, 3)
        What a unit of each of the others changes of centre, σ and thickness, but for the factors of the frame.
    precision : (N, N)
        Inverse covariance, in units of the weights.
    point : (N,)
        The parameters now, as departures from what the prior expects.
    held : (N,) bool
        Those that stay where they are.
    """

    places: IntArray
    levers: FloatArray
    precision: FloatArray
    point: FloatArray
    held: BoolArray


@dataclass(frozen=True, eq=False, kw_only=True)
class JointEquations(ReducedEquations):
    """Reduced normal equations N δ = r of the P parameters of the structure, as :class:`ReducedEquations`.

    Attributes
    ----------
    frames : sequence of FrameEquations
        At the scales held.
    prior : PriorOfFrames
    """

    prior: PriorOfFrames

    @cached_property
    def _sums(self) -> tuple[FloatArray, FloatArray, Any]:
        """Normal matrix (2 + P, 2 + P) and right-hand side, what frames have of their own eliminated; how that follows."""
        number, prior = self._columns, self.prior
        size = len(prior.point)
        matrix, right = np.zeros((number, number)), np.zeros(number)
        square, pull = prior.precision.copy(), -prior.precision @ prior.point
        coupling, known = np.zeros((size, number)), np.zeros((size, number))
        for place, frame in enumerate(self.frames):
            own, rest, residual, places = *self._design(place), frame.residual, prior.places[place]
            square[np.ix_(places, places)] += own.T @ own
            pull[places] += own.T @ residual
            coupling[places, : rest.shape[1]] += own.T @ rest
            right[: rest.shape[1]] += residual @ rest
            if self._is_complete(frame):
                known[places] += own.T @ rest
                matrix += rest.T @ rest
        square[prior.held], square[:, prior.held] = 0.0, 0.0
        square[prior.held, prior.held] = 1.0
        pull[prior.held], coupling[prior.held], known[prior.held] = 0.0, 0.0, 0.0
        root = scipy.linalg.cho_factor(square)
        matrix = self._times * (matrix - known.T @ scipy.linalg.cho_solve(root, known))
        return matrix, right - coupling.T @ scipy.linalg.cho_solve(root, pull), (root, coupling, pull)

    def _design(self, place: int) -> tuple[FloatArray, FloatArray]:
        """Derivatives of √w k I of a frame by what it has of its own, (M, V); by σ, thickness and structure."""
        frame = self.frames[place]
        design = frame.design.astype(float)
        own = [(frame.scale * frame.calculated)[:, None], design[:, :3] @ self.prior.levers[place].T]
        return np.hstack(own), design[:, 1:]

    @property
    def seeds(self) -> list[FloatArray]:
        """Seeds s (M,) of all frames such that r = Σ s·∂I/∂p: an exact gradient then gives an exact right-hand side."""
        shared, shifts = self.nuisance_shifts
        seeds = []
        for place, frame in enumerate(self.frames):
            own, rest = self._design(place)
            left = frame.residual - own @ shifts[self.prior.places[place]] - rest[:, :2] @ shared
            seeds.append(frame.seed(left))
        return seeds

    @property
    def nuisance_shifts(self) -> tuple[FloatArray, FloatArray]:
        """Gauss–Newton shifts (2,) of σ and thickness, and (N,) of what frames have of their own, the structure held."""
        free, (inverse, _, right) = self._free, self._blocks
        root, coupling, pull = self._sums[2]
        shared = np.zeros(2)
        shared[free] = inverse @ right
        return shared, np.asarray(scipy.linalg.cho_solve(root, pull - coupling[:, :2] @ shared))

    def variances(self, covariance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Covariances (2, 2) of σ and thickness; variances (F, 3) of centre, σ and thickness of each frame, but for its
        factors, and (F,) of its scale.
        """
        whole, prior = self._with_shared(covariance), self.prior
        root, coupling, _ = self._sums[2]
        lever = scipy.linalg.cho_solve(root, coupling)
        alone = scipy.linalg.cho_solve(root, np.diag(np.where(prior.held, 0.0, 1.0)))
        own = alone + lever @ whole @ lever.T
        cross = -lever @ whole[:, :2]
        along = np.zeros((len(self.frames), 3))
        along[:, 1:] = np.diag(whole)[:2]
        for frame, places, levers in zip(along, prior.places[:, 1:], prior.levers, strict=True):
            frame += np.einsum("vi,vw,wi->i", levers, own[np.ix_(places, places)], levers)
            frame[1:] += 2.0 * np.sum(levers[:, 1:] * cross[places], axis=0)
        scales = np.array([frame.scale for frame in self.frames]) ** 2 * np.diag(own)[prior.places[:, 0]]
        return whole[:2, :2], along, scales
