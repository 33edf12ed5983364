"""Nuisance parameters (thickness law, thickness, spread, centres, scales) as weights on cubes of computed intensities.

Their fit is in :mod:`edtbx.fitting.nuisance_fit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
    thickness_factors, sigma_factors : (F,) or None
        Thickness and spread of each frame over those above; None where the frames share these. The thicknesses of a
        histogram are held.
    """

    shape: str
    thickness: float
    sigma: float
    centres: FloatArray
    scales: FloatArray
    histogram: FloatArray | None = None
    thickness_factors: FloatArray | None = None
    sigma_factors: FloatArray | None = None

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
        thickness = _range(self.thickness, self.thickness_factors, 0)
        return f"{self.shape} of {thickness} Å, spread {_range(math.degrees(self.sigma), self.sigma_factors, 3)}°"

    def at(self, places: Sequence[int]) -> Nuisance:
        """Nuisance parameters of the frames at the given places."""
        every = list(places)
        return replace(
            self,
            centres=self.centres[every],
            scales=self.scales[every],
            thickness_factors=None if self.thickness_factors is None else self.thickness_factors[every],
            sigma_factors=None if self.sigma_factors is None else self.sigma_factors[every],
        )

    def updated(self, some: Nuisance, places: Sequence[int]) -> Nuisance:
        """Nuisance parameters with thickness and spread of some of the frames, and the centres and scales of these.

        What each frame has of thickness and spread stays.
        """
        centres, scales = self.centres.copy(), self.scales.copy()
        centres[list(places)], scales[list(places)] = some.centres, some.scales
        return replace(
            some,
            centres=centres,
            scales=scales,
            thickness_factors=self.thickness_factors,
            sigma_factors=self.sigma_factors,
        )

    @property
    def thicknesses(self) -> FloatArray:
        """Thickness (F,) of each frame in Å."""
        return _of_frames(self.thickness, self.thickness_factors, len(self.scales))

    @property
    def sigmas(self) -> FloatArray:
        """Spread (F,) of each frame in radians."""
        return _of_frames(self.sigma, self.sigma_factors, len(self.scales))

    @property
    def factors(self) -> FloatArray:
        """What centre, spread and thickness of each frame change (F, 3) where centre, shared spread and thickness do."""
        number = len(self.scales)
        own = [_of_frames(1.0, factors, number) for factors in (self.sigma_factors, self.thickness_factors)]
        return np.column_stack([np.ones(number), *own])

    def uncertainties(self, shared: FloatArray, along: FloatArray, scales: FloatArray) -> Nuisance:
        """S.u.s in the form of nuisance parameters, whose ``thicknesses`` and ``sigmas`` are those of the frames.

        Parameters
        ----------
        shared : (2,)
            Variances of σ and thickness.
        along : (F, 3)
            Variances of centre, σ and thickness of each frame, the latter two but for its factors.
        scales : (F,)
            Variances of scales.
        """
        (sigma, thickness), (centres, sigmas, thicknesses) = np.sqrt(shared), np.sqrt(along.T)
        return Nuisance(
            shape=self.shape,
            thickness=float(thickness),
            sigma=float(sigma),
            centres=centres,
            scales=np.sqrt(scales),
            thickness_factors=_times(self.thickness_factors, thicknesses, thickness),
            sigma_factors=_times(self.sigma_factors, sigmas, sigma),
        )

    def over_thickness(self, grid: Grid) -> FloatArray:
        """Weights (F, T) on the thicknesses of the grid."""
        if self.histogram is not None:
            return self._on_frames(histogram_weights(grid.thickness, *self.histogram))
        return self._by_thickness(lambda t: thickness_weights(grid.thickness, self.shape, t))

    def over_spread(self, grid: Grid, bases: FloatArray | float = 0.0) -> FloatArray:
        """Weights (F, J) on the y nodes of every frame, whose nodes have their zeros at the bases (F,)."""
        return spread_weights(grid.y, self.centres - bases, self.sigmas)

    def slopes_over_thickness(self, grid: Grid) -> FloatArray:
        """Derivatives (F, T) of ``over_thickness`` by the thickness of the frame, per Å; 0 for a free histogram."""
        if self.histogram is not None:
            return self._on_frames(np.zeros_like(grid.thickness))
        return self._by_thickness(lambda t: thickness_slopes(grid.thickness, self.shape, t))

    def slopes_over_spread(self, grid: Grid, bases: FloatArray | float = 0.0) -> FloatArray:
        """Derivatives (2, F, J) of ``over_spread`` by centre and σ of the frame, per radian."""
        return spread_slopes(grid.y, self.centres - bases, self.sigmas)

    def _by_thickness(self, values: Callable[[float], FloatArray]) -> FloatArray:
        """Values (F, T) at the thickness of each frame."""
        if self.thickness_factors is None:
            return self._on_frames(values(self.thickness))
        return np.stack([values(t) for t in self.thicknesses.tolist()])

    def _on_frames(self, values: FloatArray) -> FloatArray:
        return np.broadcast_to(values, (len(self.scales), len(values)))

    def intensities(self, grid: Grid, cubes: Sequence[FrameCube]) -> list[FloatArray]:
        """Scaled I_calc (M,) of each frame."""
        return self.scaled(self.unscaled(grid, cubes))

    def scaled(self, unscaled: Sequence[FloatArray]) -> list[FloatArray]:
        """I_calc (M,) of each frame times its scale."""
        return [scale * own for scale, own in zip(self.scales, unscaled, strict=True)]

    def unscaled(self, grid: Grid, cubes: Sequence[FrameCube]) -> list[FloatArray]:
        """Unscaled I_calc (M,) of each frame."""
        over_t = self.over_thickness(grid)
        return [over_law @ own for over_law, own in zip(self.over_nodes(grid, cubes), over_t, strict=True)]

    def over_nodes(self, grid: Grid, cubes: Sequence[FrameCube]) -> list[FloatArray]:
        """Sums (M, T) of each frame over its y nodes."""
        over_y = self.over_spread(grid, _bases(cubes))
        return [cube.over_nodes(own) for cube, own in zip(cubes, over_y, strict=True)]

    def slopes(self, grid: Grid, cubes: Sequence[FrameCube]) -> list[FloatArray]:
        """Derivatives (M, 3) of the unscaled I_calc of each frame by its centre and σ, per radian, and thickness, per Å."""
        columns = (
            cubes,
            *self.slopes_over_spread(grid, _bases(cubes)),
            self.over_nodes(grid, cubes),
            self.over_thickness(grid),
            self.slopes_over_thickness(grid),
        )
        return [
            np.stack(
                [cube.over_nodes(centre) @ over_t, cube.over_nodes(sigma) @ over_t, over_law @ by_thickness], axis=1
            )
            for cube, centre, sigma, over_law, over_t, by_thickness in zip(*columns, strict=True)
        ]


def _range(common: float, factors: FloatArray | None, digits: int) -> str:
    """The value that frames share, or the least and the greatest one."""
    if factors is None:
        return f"{common:.{digits}f}"
    return f"{common * factors.min():.{digits}f} to {common * factors.max():.{digits}f}"


def _of_frames(common: float, factors: FloatArray | None, frames: int) -> FloatArray:
    return np.full(frames, common) if factors is None else common * factors


def _times(factors: FloatArray | None, values: FloatArray, unit: float) -> FloatArray | None:
    """Factors (F,) on the unit that give values (F,) times factors; None where there are none."""
    return None if factors is None else factors * values / max(float(unit), 1e-300)


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
