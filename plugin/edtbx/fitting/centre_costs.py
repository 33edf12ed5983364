"""Misfit of every frame at its best scale, for a thickness law, as a function of orientation spread and centre.

For a law, the intensities of a frame are linear in the weights v (J,) of its y nodes, and its misfit at the best scale is
|o|² − (b·v)²/(v·G v), with G the normal matrix of the nodes and b their products with the measured intensities o, all
weighted. So a law costs one pass over the cubes, and a spread and a centre J² multiplications a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edtbx.arrays import BoolArray, FloatArray
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.nuisance import FrameCube, Grid, weighted_sum
from edtbx.intensities.quadrature import spread_weights

_TRIED = 21
"""Centres that are tried for each frame, before those near the best."""

_FINER = 2
"""Times that the steps of the centres are divided by ten about the best: a narrow spread makes kinks, which no parabola
follows, and a centre that is off by much keeps the shifts of a refinement above 0.01 s.u.s."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class WeightedCubes:
    """Cubes of F frames, as one array for many laws.

    Attributes
    ----------
    intensities : (T, J, R)
        √w I of all rows, one frame after the other.
    observed : (R,)
        √w I_obs.
    places : (2, R) int
        Frame of each row, and its place within the frame.
    rows : (F,) int
        Number of rows of each frame.
    bases : (F,), radians
        Zeros of the y nodes.
    """

    intensities: FloatArray
    observed: FloatArray
    places: FloatArray
    rows: FloatArray
    bases: FloatArray
    grid: Grid
    bounds: NuisanceBounds

    @classmethod
    def of(cls, cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds) -> WeightedCubes:
        """The cubes weighted and joined."""
        roots = [np.sqrt(cube.weights) for cube in cubes]
        rows = np.array([len(root) for root in roots])
        ends = np.cumsum(rows)
        nodes, _, thicknesses = cubes[0].intensities.shape
        joined = np.empty((thicknesses, nodes, ends[-1]), dtype=cubes[0].intensities.dtype)
        for cube, root, end in zip(cubes, roots, ends, strict=True):
            place = joined[:, :, end - len(root) : end]
            np.multiply(np.moveaxis(cube.intensities, 2, 0), root, out=place, casting="same_kind")
        return cls(
            intensities=joined,
            observed=np.concatenate([cube.observed * root for cube, root in zip(cubes, roots, strict=True)]),
            places=np.stack([np.repeat(np.arange(len(rows)), rows), np.concatenate([np.arange(n) for n in rows])]),
            rows=rows,
            bases=np.array([cube.base for cube in cubes]),
            grid=grid,
            bounds=bounds,
        )

    @property
    def centre_steps(self) -> FloatArray:
        """Centres tried (C,) in radians, counted from the base of each frame."""
        reach = min(self.bounds.centre_max, self.grid.centre_reach)
        return np.linspace(-reach, reach, _TRIED) if self.bounds.refine_centres else np.zeros(1)

    @property
    def stays(self) -> BoolArray:
        """Frames (F,) whose rows are too few to move their centre."""
        return np.asarray(self.rows < self.bounds.min_reflections)

    def under(self, law: FloatArray) -> FrameCosts:
        """Costs for the weights (T,) of a thickness law."""
        number = len(self.rows)
        nodes = np.zeros((number, int(self.rows.max()), len(self.grid.y)))
        observed = np.zeros(nodes.shape[:2])
        frame, place = self.places
        nodes[frame, place] = weighted_sum(law.astype(self.intensities.dtype), self.intensities).T
        observed[frame, place] = self.observed
        across = np.swapaxes(nodes, 1, 2)
        return FrameCosts(
            cubes=self,
            square=np.sum(observed**2, axis=1),
            cross=(across @ observed[:, :, None])[:, :, 0],
            gram=across @ nodes,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameCosts:
    """Misfits under a law: ``square`` (F,), ``cross`` (F, J) and ``gram`` (F, J, J) as in the module's formula."""

    cubes: WeightedCubes
    square: FloatArray
    cross: FloatArray
    gram: FloatArray

    def total(self, sigmas: FloatArray) -> FloatArray:
        """Sum over all frames (S,), each at the best centre tried, for spreads (S,) in radians."""
        steps = np.broadcast_to(self.cubes.centre_steps, (len(self.square), len(self.cubes.centre_steps)))
        table = spread_weights(self.cubes.grid.y, self.cubes.centre_steps, np.asarray(sigmas)[:, None])
        number = len(sigmas)
        costs = self._costs(np.broadcast_to(table.reshape(1, -1, table.shape[-1]), (len(steps), *_flat(table))))
        costs = self._with_prior(costs.reshape(len(steps), number, -1), steps[:, None])
        return np.asarray(costs.min(axis=2).sum(axis=0))

    def centres(self, sigma: float) -> FloatArray:
        """Best centres (F,) in radians for a spread."""
        cubes = self.cubes
        steps = np.broadcast_to(cubes.centre_steps, (len(self.square), len(cubes.centre_steps)))
        best, width = self._best(steps, sigma), float(np.ptp(cubes.centre_steps)) / (_TRIED - 1)
        for _ in range(_FINER if steps.shape[1] > 1 else 0):
            steps = np.where(cubes.stays, 0.0, best)[:, None] + width * np.linspace(-1.0, 1.0, _TRIED)
            reach = cubes.centre_steps[-1]
            best, width = self._best(np.clip(steps, -reach, reach), sigma), 2.0 * width / (_TRIED - 1)
        return np.asarray(cubes.bases + np.where(cubes.stays, 0.0, best))

    def _best(self, steps: FloatArray, sigma: float) -> FloatArray:
        """Best (F,) of the steps (F, C) of each frame."""
        costs = self._with_prior(self._costs(spread_weights(self.cubes.grid.y, steps, sigma)), steps)
        return np.asarray(np.take_along_axis(steps, np.argmin(costs, axis=1)[:, None], axis=1)[:, 0])

    def _costs(self, weights: FloatArray) -> FloatArray:
        """Misfits (F, K) for weights (F, K, J) of the nodes."""
        cross = (weights @ self.cross[:, :, None])[:, :, 0]
        square = np.sum((weights @ self.gram) * weights, axis=2)
        gain = np.where(cross > 0.0, cross * cross / np.maximum(square, 1e-300), 0.0)
        return np.asarray(self.square[:, None] - gain)

    def _with_prior(self, costs: FloatArray, steps: FloatArray) -> FloatArray:
        """Costs (F, ..., C), the prior of the centres added; infinite out of bounds."""
        cubes, bounds = self.cubes, self.cubes.bounds
        if steps.shape[-1] == 1:
            return costs
        shape = (-1, *(1,) * (costs.ndim - 1))
        centres = cubes.bases.reshape(shape) + steps
        stays = cubes.stays.reshape(shape)
        chi_squared = costs.min(axis=-1, keepdims=True) / cubes.rows.reshape(shape)
        costs = costs + np.where(stays, 0.0, chi_squared) * (centres / bounds.centre_prior) ** 2
        allowed = np.where(stays, np.abs(steps) < 1e-12, np.abs(centres) <= bounds.centre_max * (1.0 + 1e-9))
        return np.asarray(np.where(allowed, costs, np.inf))


def _flat(table: FloatArray) -> tuple[int, int]:
    """Shape (S C, J) of a table (S, C, J)."""
    return table.shape[0] * table.shape[1], table.shape[2]
