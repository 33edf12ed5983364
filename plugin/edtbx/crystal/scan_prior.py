"""Gaussian processes over the angle of a scan: constant + trend + smooth + jumps from frame to frame.

References
----------
C. E. Rasmussen & C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equations 4.9 (smooth) and 5.9 (slopes
of the evidence).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edtbx.arrays import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Amplitudes:
    """Hyperparameters of a process: standard deviations in its own unit, and the length of what is smooth, in radians."""

    constant: float
    trend: float
    smooth: float
    length: float
    jump: float

    @property
    def logarithms(self) -> FloatArray:
        """Natural logarithms (5,)."""
        return np.log([self.constant, self.trend, self.smooth, self.length, self.jump])

    @classmethod
    def of(cls, logarithms: FloatArray) -> Amplitudes:
        """From natural logarithms (5,)."""
        constant, trend, smooth, length, jump = np.exp(logarithms).tolist()
        return cls(constant=constant, trend=trend, smooth=smooth, length=length, jump=jump)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanPrior:
    """Normal prior of zero mean of one quantity of all frames.

    Attributes
    ----------
    angles : (F,), radians
        Angles of the frames.
    start, least, greatest : Amplitudes
        Where their search starts, and its bounds; the trend is one standard deviation of the angles long.
    """

    angles: FloatArray
    start: Amplitudes
    least: Amplitudes
    greatest: Amplitudes

    @cached_property
    def _distances(self) -> FloatArray:
        return np.abs(self.angles[:, None] - self.angles)

    @cached_property
    def line(self) -> FloatArray:
        """What a trend is multiplied with, (F,): the angles, of mean 0 and standard deviation 1."""
        centred = self.angles - self.angles.mean()
        return centred / max(float(np.std(self.angles)), 1e-12)

    def covariance(self, logarithms: FloatArray) -> FloatArray:
        """Covariance (F, F) for logarithms (5,) of the amplitudes."""
        return np.asarray(sum(self._terms(logarithms)))

    def slopes(self, logarithms: FloatArray) -> list[FloatArray]:
        """Derivatives, (F, F) each, of the covariance by the logarithms (5,)."""
        constant, trend, smooth, jump = self._terms(logarithms)
        longer = smooth * (self._distances / np.exp(logarithms[3])) ** 2
        return [2.0 * constant, 2.0 * trend, 2.0 * smooth, longer, 2.0 * jump]

    def _terms(self, logarithms: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        constant, trend, smooth, length, jump = np.exp(logarithms)
        number = len(self.angles)
        return (
            np.full((number, number), constant**2),
            trend**2 * np.outer(self.line, self.line),
            smooth**2 * np.exp(-0.5 * (self._distances / length) ** 2),
            jump**2 * np.eye(number),
        )
