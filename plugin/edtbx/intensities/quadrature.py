"""Orientations of a frame and their weights: tilts along the scan × orientation spread across the axis.

The spread over which blocks, bends and wobble smear a frame acts about lab y (across beam and rotation axis); along the
scan the same spread is integrated away. The scan is sampled anew, with a shift, at each y, so that rows that are summed
with a smooth weight help each other out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from edtbx.arrays import FloatArray
from edtbx.measurement.experiment import ScanGeometry

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Orientations:
    """Rotations x and y (B,) in radians from the centre of a frame, and their weights (J, B) at each node of y."""

    x: FloatArray
    y: FloatArray
    weights: FloatArray

    def summed(self, over_y: FloatArray) -> Orientations:
        """Orientations with weights of K sums over the nodes, (K, J); those without any weight are left out."""
        weights = over_y @ self.weights
        used = np.flatnonzero(np.any(weights, axis=0))
        return Orientations(x=self.x[used], y=self.y[used], weights=weights[:, used])


@dataclass(frozen=True, slots=True, kw_only=True)
class Quadrature:
    """Nodes at which a frame is sampled.

    ``tilts`` is the number of equally spaced tilts at each y; ``y`` (J,) are the nodes of the spread in radians,
    equally spaced; ``first`` is the number of the first, which the shift of its tilts depends on.
    """

    tilts: int
    y: FloatArray
    first: int = 0

    @classmethod
    def spanning(cls, tilts: int, reach: float, spacing: float, between: bool = False) -> Quadrature:
        """Nodes from −reach to +reach (radians) that are ``spacing`` apart, with zero at or ``between`` two of them."""
        shift = 0.5 if between else 0.0
        half = max(math.ceil(reach / spacing - shift - 1e-9), 0) + shift
        return cls(tilts=tilts, y=spacing * np.arange(-half, half + 1.0))

    def orientations(self, geometry: ScanGeometry, semi_angle: float) -> Orientations:
        """Equally weighted tilts at every y node, for a scan of ``semi_angle`` in radians."""
        shift = (0.5 + (self.first + np.arange(len(self.y))) * _GOLDEN) % 1.0
        step = ((np.arange(self.tilts) + shift[:, None]) / self.tilts).ravel()
        y = np.repeat(self.y, self.tilts)
        weights = np.kron(np.eye(len(self.y)), np.full(self.tilts, 1.0 / self.tilts))
        if geometry is ScanGeometry.ROTATION:
            return Orientations(x=semi_angle * (2.0 * step - 1.0), y=y, weights=weights)
        phi = 2.0 * math.pi * step
        return Orientations(x=semi_angle * np.cos(phi), y=y + semi_angle * np.sin(phi), weights=weights)


def tilts_needed(thickness: float, semi_angle: float, lever: float, geometry: ScanGeometry) -> int:
    """Number of equally spaced tilts that integrate a rocking curve exactly: their spacing in S_g must stay below 1/t.

    n ≥ t · 2·semi_angle·lever for a rotation through ±semi_angle, t · 2π·semi_angle·lever around a precession cone;
    ``thickness`` in Å, ``lever`` = max |g_y| (rotation) or |g| (precession) in Å⁻¹.
    """
    path = 2.0 * semi_angle if geometry is ScanGeometry.ROTATION else 2.0 * math.pi * semi_angle
    return math.ceil(thickness * path * lever) + 1


def spread_weights(y: FloatArray, centre: FloatArray | float, sigma: FloatArray | float) -> FloatArray:
    """Weights (..., J) of equally spaced nodes y for Gaussians of standard deviation sigma about centre, (...) in radians.

    The Gaussian is integrated against the piecewise linear interpolant on the nodes, so that any sigma, zero too, is
    represented; the part beyond the last node counts there. The weights sum to one.
    """
    x, step = _ramp_places(y, centre)
    return _over_nodes(_gaussian_ramp(x, np.asarray(sigma)[..., None] / step), 1.0)


def spread_slopes(y: FloatArray, centre: FloatArray | float, sigma: FloatArray | float) -> FloatArray:
    """Derivatives (2, ..., J) of :func:`spread_weights` by centre and by sigma, per radian."""
    x, step = _ramp_places(y, centre)
    scaled = x * step / np.maximum(np.asarray(sigma)[..., None], 1e-9 * step)
    ramps = np.stack([-ndtr(scaled), np.exp(-0.5 * scaled * scaled) / math.sqrt(2.0 * math.pi)]) / step
    return _over_nodes(ramps, 0.0)


def _ramp_places(y: FloatArray, centre: FloatArray | float) -> tuple[FloatArray, float]:
    """Nodes and one more at either end (..., J + 2), counted from the centre in steps, and the step in radians."""
    step = float(y[1] - y[0]) if len(y) > 1 else 1.0
    edges = (y - np.asarray(centre)[..., None]) / step
    return np.concatenate([edges[..., :1] - 1.0, edges, edges[..., -1:] + 1.0], axis=-1), step


def _over_nodes(ramp: FloatArray, total: float) -> FloatArray:
    """Weights (..., J) that sum to a total: second differences of a ramp (..., J + 2), the rest at the end nodes."""
    weights = np.diff(ramp, 2)
    weights[..., 0] += ramp[..., 1] - ramp[..., 0]
    weights[..., -1] += total - (ramp[..., -1] - ramp[..., -2])
    return np.asarray(weights)


def _gaussian_ramp(x: FloatArray, sigma: FloatArray) -> FloatArray:
    """E[max(x − z, 0)] for z normal with standard deviation sigma: its second difference is the hat-function weight."""
    wide = np.maximum(sigma, 1e-9)
    scaled = x / wide
    ramp = x * ndtr(scaled) + wide * np.exp(-0.5 * scaled * scaled) / math.sqrt(2.0 * math.pi)
    return np.asarray(np.where(sigma < 1e-9, np.maximum(x, 0.0), ramp))
