"""Normal equations of all frames, reduced to the P parameters of the structure.

Every frame has a scale and a centre of its own, and all share spread and thickness; none of these belongs in the normal
matrix of the structure. The scale is the best one for whatever the rest is, a function of it (variable
projection); centres, then spread and thickness, are eliminated by Schur complements. What is left has the P parameters
of the structure, its inverse is their part of the covariance matrix of all parameters, and going back through the
eliminations gives the s.u.s of the others. Costs O(M P²) for M rows.

References
----------
G. H. Golub & V. Pereyra, SIAM J. Numer. Anal. 10, 413 (1973), doi:10.1137/0710036 (variable projection).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.fitting.nuisance_bounds import NuisanceBounds, centre_is_free
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance

_DETERMINED = 1e-8
"""Least part of the squared slopes of a shared parameter that must remain beside scales and centres for it to be refined."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameEquations:
    """Rows √w (I_obs − k I) of one frame, at its best scale k.

    Attributes
    ----------
    observed, calculated : (M,)
        √w I_obs and √w I, unscaled.
    along : (M, 3)
        √w times derivatives of I by centre, σ and thickness (radians, Å), the latter two those that frames share.
    rows : (M, P)
        Derivatives of I by the parameters of the structure; P is 0 where these are not at hand. They take most of the
        memory, are shared by all equations made of them, and are weighted only while they are in use.
    root : (M,)
        √w.
    centre, prior : float
        The centre of the frame in radians, and the reciprocal of the s.u. that it is held to 0 with; 0 leaves it free,
        infinite holds it where it is.
    held_scale : float, optional
        The scale, where it is not the best one.
    """

    observed: FloatArray
    calculated: FloatArray
    along: FloatArray
    rows: FloatArray
    root: FloatArray
    centre: float
    prior: float
    held_scale: float | None = None

    @classmethod
    def of(
        cls,
        observed: FloatArray,
        calculated: FloatArray,
        along: FloatArray,
        rows: FloatArray | None,
        *,
        weights: FloatArray,
        centre: float,
        prior: float,
    ) -> FrameEquations:
        """Equations from measured and unscaled computed intensities (M,), derivatives of the latter (M, 3) and (M, P), and
        weights (M,).
        """
        root = np.sqrt(weights)
        return cls(
            observed=root * observed,
            calculated=root * calculated,
            along=root[:, None] * along,
            rows=np.zeros((len(observed), 0)) if rows is None else rows,
            root=root,
            centre=centre,
            prior=prior,
        )

    @property
    def _square(self) -> float:
        return max(float(self.calculated @ self.calculated), 1e-300)

    @property
    def scale(self) -> float:
        """Scale k ≥ 0: the best one, unless it is held."""
        if self.held_scale is not None:
            return self.held_scale
        return max(float(self.calculated @ self.observed), 0.0) / self._square

    @property
    def residual(self) -> FloatArray:
        """Weighted residuals √w (I_obs − k I), (M,)."""
        return self.observed - self.scale * self.calculated

    @property
    def parameters(self) -> int:
        """Number P of parameters of the structure."""
        return self.rows.shape[1]

    @property
    def _following(self) -> FloatArray:
        """Derivatives (M,) of the scale k by √w I: none where it is held."""
        follows = self.held_scale is None
        return follows * (self.observed - 2.0 * self.scale * self.calculated) / self._square

    @property
    def scale_slopes(self) -> FloatArray:
        """Derivatives (3 + P,) of the scale k by all other parameters."""
        following = self._following
        return np.concatenate([following @ self.along, (self.root * following) @ self.rows])

    @property
    def along_design(self) -> FloatArray:
        """Derivatives of √w k I by centre, σ and thickness, the scale following, (M, 3)."""
        return self.scale * self.along + np.outer(self.calculated, self._following @ self.along)

    @property
    def design(self) -> FloatArray:
        """Derivatives of √w k I, the scale following, (M, 3 + P), in the precision of the rows."""
        design = np.empty((len(self.root), 3 + self.parameters), dtype=self.rows.dtype)
        design[:, :3] = self.along
        np.multiply(self.rows, self.root.astype(design.dtype)[:, None], out=design[:, 3:])
        design *= self.scale
        design += np.outer(self.calculated, self.scale_slopes).astype(design.dtype)
        return design

    def seed(self, residual: FloatArray) -> FloatArray:
        """Seed s (M,) such that s·∂I/∂p is residual·(column p of the design)."""
        return np.asarray(self.root * (self.scale * residual + self._following * (self.calculated @ residual)))


def frame_equations(
    cubes: Sequence[FrameCube],
    grid: Grid,
    nuisance: Nuisance,
    bounds: NuisanceBounds,
    by_structure: Mapping[int, FloatArray],
    *,
    scales_follow: bool = True,
) -> list[FrameEquations]:
    """Equations of every frame, with the weights of its cube.

    Parameters
    ----------
    by_structure : mapping
        ∂I/∂p (M, P) of unscaled I by frame id, for all frames or for some.
    scales_follow : bool
        Whether scales are the best ones, or those given.
    """
    equations = []
    parts = (nuisance.intensities(grid, cubes), nuisance.slopes(grid, cubes), nuisance.factors, nuisance.scales)
    for cube, calculated, slopes, factors, scale, centre in zip(cubes, *parts, nuisance.centres, strict=True):
        misfit = float(cube.weights @ (cube.observed - calculated) ** 2) / len(cube.observed)
        free = centre_is_free(centre, cube.base, len(cube.observed), grid, bounds)
        own = FrameEquations.of(
            cube.observed,
            calculated / max(scale, 1e-300),
            slopes * factors,
            by_structure.get(cube.frame_id),
            weights=cube.weights,
            centre=centre,
            prior=math.sqrt(misfit) / bounds.centre_prior if free else math.inf,
        )
        equations.append(own if scales_follow else replace(own, held_scale=float(scale)))
    return equations


@dataclass(frozen=True, eq=False, kw_only=True)
class ReducedEquations:
    """Reduced normal equations N δ = r of the P parameters of the structure, and variances of the eliminated ones.

    ``shared`` (2,) says which of σ and thickness are refined. Where only some frames have slopes by the structure, N is
    that of these, scaled up as their intensities are to those of all; what pulls at centres, σ and thickness is always
    that of all.
    """

    frames: Sequence[FrameEquations]
    shared: BoolArray

    @cached_property
    def _columns(self) -> int:
        """2 + P."""
        return 2 + max(frame.parameters for frame in self.frames)

    @cached_property
    def _times(self) -> float:
        """Factor on sums over the frames with slopes by the structure, to make up for the other frames."""
        whole = [frame.scale**2 * frame._square for frame in self.frames]
        complete = [part for part, frame in zip(whole, self.frames, strict=True) if self._is_complete(frame)]
        return sum(whole) / max(sum(complete), 1e-300)

    def _is_complete(self, frame: FrameEquations) -> bool:
        return frame.parameters == self._columns - 2

    @cached_property
    def _sums(self) -> tuple[FloatArray, FloatArray, list[tuple[float, float, FloatArray]]]:
        """Normal matrix (2 + P, 2 + P) and right-hand side, centres eliminated; pivot, residual and row of each centre."""
        number = self._columns
        matrix, right, centres = np.zeros((number, number)), np.zeros(number), []
        for frame in self.frames:
            design, residual = frame.design, frame.residual
            along, rest = design[:, 0], np.zeros((len(design), number))
            rest[:, : design.shape[1] - 1] = design[:, 1:]
            times = self._times if self._is_complete(frame) else 0.0
            matrix += times * rest.T @ rest
            right += residual @ rest
            if np.isinf(frame.prior):
                centres.append((np.inf, 0.0, np.zeros(number)))
                continue
            pivot = float(along @ along) + frame.prior**2
            pull = float(along @ residual) - frame.prior**2 * frame.centre
            row = along @ rest
            centres.append((pivot, pull, row))
            matrix -= times * np.outer(row, row / pivot)
            right -= row * (pull / pivot)
        return matrix, np.asarray(right), centres

    @cached_property
    def _free(self) -> IntArray:
        """Places (σ 0, thickness 1) of the shared parameters that are refined and determined beside scales and centres."""
        left = np.diag(self._sums[0])[:2]
        complete = [frame for frame in self.frames if self._is_complete(frame)]
        whole = self._times * sum(frame.scale**2 * np.sum(frame.along[:, 1:] ** 2, axis=0) for frame in complete)
        return np.flatnonzero(self.shared & (left > _DETERMINED * whole))

    @cached_property
    def _blocks(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Inverse block, coupling to the structure and right-hand side of those of spread and thickness that are refined."""
        matrix, right, _ = self._sums
        free = self._free
        return np.asarray(np.linalg.inv(matrix[np.ix_(free, free)])), matrix[free, 2:], right[free]

    @cached_property
    def matrix(self) -> FloatArray:
        """Reduced normal matrix N (P, P)."""
        inverse, coupling, _ = self._blocks
        return np.asarray(self._sums[0][2:, 2:] - coupling.T @ inverse @ coupling)

    @cached_property
    def right_hand_side(self) -> FloatArray:
        """Reduced right-hand side r (P,), as exact as the rows are, where all frames have them."""
        inverse, coupling, right = self._blocks
        return np.asarray(self._sums[1][2:] - coupling.T @ (inverse @ right))

    @property
    def seeds(self) -> list[FloatArray]:
        """Seeds s (M,) of all frames such that r = Σ s·∂I/∂p: an exact gradient then gives an exact right-hand side."""
        shared, centres = self.nuisance_shifts
        seeds = []
        for frame, centre in zip(self.frames, centres, strict=True):
            along = frame.along_design
            seeds.append(frame.seed(frame.residual - along[:, 0] * centre - along[:, 1:] @ shared))
        return seeds

    @property
    def nuisance_shifts(self) -> tuple[FloatArray, FloatArray]:
        """Gauss–Newton shifts (2,) of σ and thickness, and (F,) of the centres, the structure held."""
        free, (inverse, _, right) = self._free, self._blocks
        shared = np.zeros(2)
        shared[free] = inverse @ right
        return shared, np.array([(pull - row[:2] @ shared) / pivot for pivot, pull, row in self._sums[2]])

    def _with_shared(self, covariance: FloatArray) -> FloatArray:
        """Covariances (2 + P, 2 + P) of σ, thickness and the structure, from those (P, P) of the structure."""
        inverse, coupling, _ = self._blocks
        free = self._free
        number = len(covariance)
        whole = np.zeros((2 + number, 2 + number))
        answer = inverse @ coupling
        whole[np.ix_(free, free)] = inverse + answer @ covariance @ answer.T
        whole[free, 2:] = -answer @ covariance
        whole[2:, free] = whole[free, 2:].T
        whole[2:, 2:] = covariance
        return whole

    def variances(self, covariance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Covariances (2, 2) of σ and thickness; variances (F, 3) of centre, σ and thickness of frames, (F,) of scales.

        They follow from the covariances (P, P) of the structure, in the same units of variance; 0 for what is not refined.
        """
        whole = self._with_shared(covariance)
        centres, scales = [], []
        for frame, (pivot, _, row) in zip(self.frames, self._sums[2], strict=True):
            lever = row / pivot
            centres.append(1.0 / pivot + lever @ whole @ lever)
            slopes = np.zeros(1 + len(lever))
            slopes[: 3 + frame.parameters] = frame.scale_slopes
            following = slopes[1:] - slopes[0] * lever
            scales.append(1.0 / frame._square + slopes[0] ** 2 / pivot + following @ whole @ following)
        shared = np.tile(np.diag(whole)[:2], (len(centres), 1))
        return whole[:2, :2], np.column_stack([centres, shared]), np.array(scales)
