"""Nuisance parameters (thickness law, thickness, spread, centres, scales) as weights on cubes of computed intensities.

Their fit is in :mod:`edtbx.fitting.nuisance_fit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.intensities.quadrature import spread_slopes, spread_weights
from edtbx.intensities.thickness import histogram_weights, thickness_slopes, thickness_weights
from edtbx.summary import Summarised

THICKEST = 1e4
"""Greatest thickness in Å: hardly any electron crosses it without loss."""

LARGEST_ANGLE = 0.04
"""Largest spread and centre of a frame in radians (2.3 degrees)."""

INSTABILITY = 0.01
"""Relative error p of the best measured intensities. On urea R(obs) rises from 0.081 at 0.01 to 0.083 at
0.02 and 0.087 at 0.05, because weights from I_obs pull scales down."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameCube:
    """Computed intensities (J, M, T) of a frame beside its measured ones (M,).

    ``base`` in radians is where the y nodes of the frame have their zero; ``weights`` (M,) are those of least squares.
    """

    frame_id: int
    intensities: FloatArray
    observed: FloatArray
    weights: FloatArray
    base: float = 0.0

    def over_nodes(self, weights: FloatArray) -> FloatArray:
        """Sum (M, T) over the y nodes with weights (J,), of which few differ from 0."""
        return weighted_sum(weights, self.intensities)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Grid:
    """Nodes of the cubes: y (J,) in radians, counted from the base of each frame, and thickness (T,) in Å.

    Centres may be ``centre_reach`` away from the base.
    """

    y: FloatArray
    thickness: FloatArray
    centre_reach: float = math.inf


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class Nuisance(Summarised):
    """Thickness law and spread of a crystal, and scale and centre of each frame.

    Attributes
    ----------
    shape : str
        Thickness law (see :mod:`edtbx.intensities.thickness`).
    thickness : float, Å
        Greatest thickness of the law; the mean of the law ``free``.
    sigma : float, radians
        Standard deviation of the orientation spread.
    centres : (F,), radians
        Deviations of the frames' orientations across the scan.
    scales : (F,)
        Factors on computed intensities.
    histogram : (2, H) or None
        Thicknesses in Å and weights of the law ``free``.
    """

    shape: str
    thickness: float
    sigma: float
    centres: FloatArray
    scales: FloatArray
    histogram: FloatArray | None = None

    def __repr__(self) -> str:
        return f"<Nuisance of {len(self.scales)} frames: {self.describe()}>"

    def summary_lines(self) -> list[str]:
        """Law, thickness (Å) and spread (degrees), and ranges of the scales and centres of the frames."""
        lines = [f"Crystal: {self.describe()}", f"Frames: {len(self.scales)}"]
        if len(self.scales):
            centres = np.degrees(self.centres)
            lines += [
                f"Scales: {self.scales.min():.4g} to {self.scales.max():.4g}, mean {self.scales.mean():.4g}",
                f"Centres: {centres.min():.3f} to {centres.max():.3f} degrees, root mean square "
                f"{math.sqrt(np.mean(centres**2)):.3f}",
            ]
        return lines

    def describe(self) -> str:
        """Law, thickness and spread as text."""
        return f"{self.shape} of {self.thickness:.0f} Å, spread {math.degrees(self.sigma):.3f}°"

    def at(self, places: Sequence[int]) -> Nuisance:
        """Nuisance parameters of the frames at the given places."""
        return replace(self, centres=self.centres[list(places)], scales=self.scales[list(places)])

    def updated(self, some: Nuisance, places: Sequence[int]) -> Nuisance:
        """Nuisance parameters with thickness and spread of some of the frames, and the centres and scales of these."""
        centres, scales = self.centres.copy(), self.scales.copy()
        centres[list(places)], scales[list(places)] = some.centres, some.scales
        return replace(some, centres=centres, scales=scales)

    def over_thickness(self, grid: Grid) -> FloatArray:
        """Weights (T,) on the thicknesses of the grid."""
        if self.histogram is not None:
            return histogram_weights(grid.thickness, *self.histogram)
        return thickness_weights(grid.thickness, self.shape, self.thickness)

    def over_spread(self, grid: Grid, bases: FloatArray | float = 0.0) -> FloatArray:
        """Weights (F, J) on the y nodes of every frame, whose nodes have their zeros at the bases (F,)."""
        return spread_weights(grid.y, self.centres - bases, self.sigma)

    def slopes_over_thickness(self, grid: Grid) -> FloatArray:
        """Derivatives (T,) of ``over_thickness`` by the thickness, per Å; 0 for a free histogram."""
        if self.histogram is not None:
            return np.zeros_like(grid.thickness)
        return thickness_slopes(grid.thickness, self.shape, self.thickness)

    def slopes_over_spread(self, grid: Grid, bases: FloatArray | float = 0.0) -> FloatArray:
        """Derivatives (2, F, J) of ``over_spread`` by centre and σ, per radian."""
        return spread_slopes(grid.y, self.centres - bases, self.sigma)

    def intensities(self, grid: Grid, cubes: Sequence[FrameCube]) -> list[FloatArray]:
        """Scaled I_calc (M,) of each frame."""
        return self.scaled(self.unscaled(grid, cubes))

    def scaled(self, unscaled: Sequence[FloatArray]) -> list[FloatArray]:
        """I_calc (M,) of each frame times its scale."""
        return [scale * own for scale, own in zip(self.scales, unscaled, strict=True)]

    def unscaled(self, grid: Grid, cubes: Sequence[FrameCube]) -> list[FloatArray]:
        """Unscaled I_calc (M,) of each frame."""
        over_t = self.over_thickness(grid)
        return [over_law @ over_t for over_law in self.over_nodes(grid, cubes)]

    def over_nodes(self, grid: Grid, cubes: Sequence[FrameCube]) -> list[FloatArray]:
        """Sums (M, T) of each frame over its y nodes."""
        over_y = self.over_spread(grid, _bases(cubes))
        return [cube.over_nodes(own) for cube, own in zip(cubes, over_y, strict=True)]

    def slopes(self, grid: Grid, cubes: Sequence[FrameCube]) -> list[FloatArray]:
        """Derivatives (M, 3) of the unscaled I_calc of each frame by centre and σ, per radian, and by thickness, per Å."""
        over_t, by_thickness = self.over_thickness(grid), self.slopes_over_thickness(grid)
        by_centre, by_sigma = self.slopes_over_spread(grid, _bases(cubes))
        columns = cubes, by_centre, by_sigma, self.over_nodes(grid, cubes)
        return [
            np.stack(
                [cube.over_nodes(centre) @ over_t, cube.over_nodes(sigma) @ over_t, over_law @ by_thickness], axis=1
            )
            for cube, centre, sigma, over_law in zip(*columns, strict=True)
        ]


def _bases(cubes: Sequence[FrameCube]) -> FloatArray:
    return np.array([cube.base for cube in cubes])


def weighted_sum(weights: FloatArray, values: FloatArray) -> FloatArray:
    """Sum (...) of values (n, ...) with weights (n,), from the first to the last that is not 0."""
    places = np.flatnonzero(weights)
    some = slice(places[0], places[-1] + 1) if len(places) else slice(0)
    own, (number, *rest) = weights[some], values[some].shape
    # tensordot takes as long again to find out that this is what it is to do
    return np.asarray((own @ values[some].reshape(number, math.prod(rest))).reshape(rest))


def intensity_weights(observed: FloatArray, sigma: FloatArray) -> FloatArray:
    """Weights (M,) of intensities, 1/(σ² + (p I)²) with p = :data:`INSTABILITY`."""
    return np.asarray(1.0 / (sigma**2 + (INSTABILITY * observed) ** 2))


def scaled_misfit(calc: FloatArray, observed: FloatArray, weights: FloatArray) -> tuple[float, FloatArray]:
    """Misfit Σ w (I_obs − k I_calc)² at the best scale k, and its derivative (M,) by I_calc (that by k is zero)."""
    scale = best_scale(calc, observed, weights)
    residual = observed - scale * calc
    return float(weights @ residual**2), -2.0 * scale * weights * residual


def best_scale(calc: FloatArray, observed: FloatArray, weights: FloatArray) -> float:
    """Scale k ≥ 0 that minimises Σ w (I_obs − k I_calc)²."""
    cross, square = float((weights * observed) @ calc), float((weights * calc) @ calc)
    return max(cross, 0.0) / max(square, 1e-300)


def at_best_scale(calculated: FloatArray, rows: FloatArray, weights: FloatArray) -> FloatArray:
    """Normal matrix (P, P) of one frame whose scale follows, for I_calc (M,), its derivatives (M, P) and weights (M,)."""
    root = np.sqrt(weights)
    along = root * calculated / max(float(np.linalg.norm(root * calculated)), 1e-300)
    design = root[:, None] * rows
    design = design - np.outer(along, along @ design)
    return np.asarray(design.T @ design)
