"""Evidence of priors for a quadratic likelihood (Laplace's approximation), with exact derivatives, and its maximum.

Where the likelihood of parameters x is exp(b·x − x·H x/2) but for a factor, and their prior is normal with covariance K, the
evidence is |1 + H K|^(−1/2) exp(b·(K⁻¹ + H)⁻¹ b/2).

References
----------
C. E. Rasmussen & C. K. I. Williams, Gaussian Processes for Machine Learning (2006), sections 3.4.4 (Laplace) and 5.5.1.
D. J. C. MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415 (effective number of parameters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.optimize import minimize

from edtbx.arrays import FloatArray
from edtbx.crystal.scan_prior import ScanPrior

_WIDE = 3.0
"""Standard deviation of the logarithm of an amplitude about its start, before data are seen: a factor of 20 either way."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Quadratic:
    """A likelihood, exp(b·x − x·H x/2) of parameters x: ``information`` H (N, N) and ``pull`` b (N,)."""

    information: FloatArray
    pull: FloatArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JointPrior:
    """Normal prior of N parameters: processes over the frames, one after the other, then single ones.

    Attributes
    ----------
    processes : sequence of ScanPrior
    singles : (S,)
        Standard deviations of the single parameters.
    """

    processes: Sequence[ScanPrior]
    singles: FloatArray

    @property
    def first(self) -> FloatArray:
        """Logarithms of the amplitudes where their search starts."""
        return np.concatenate([process.start.logarithms for process in self.processes])

    def covariance(self, logarithms: FloatArray) -> FloatArray:
        """Covariance K (N, N) for the logarithms of the amplitudes of all processes, five each."""
        pairs = zip(self.processes, np.split(logarithms, len(self.processes)), strict=True)
        return scipy.linalg.block_diag(*(one.covariance(own) for one, own in pairs), np.diag(self.singles**2))

    def deviance(self, logarithms: FloatArray, likelihood: Quadratic) -> tuple[float, FloatArray]:
        """−ln evidence but for a constant, and its derivatives by the logarithms of the amplitudes."""
        covariance = self.covariance(logarithms)
        whole = np.eye(len(covariance)) + likelihood.information @ covariance
        factors = scipy.linalg.lu_factor(whole)
        scaled = scipy.linalg.lu_solve(factors, likelihood.pull)
        curvature = scipy.linalg.lu_solve(factors, likelihood.information)
        value = 0.5 * float(np.sum(np.log(np.abs(np.diag(factors[0]))))) - 0.5 * float(
            likelihood.pull @ (covariance @ scaled)
        )
        slopes, end = [], 0
        for process, own in zip(self.processes, np.split(logarithms, len(self.processes)), strict=True):
            rows = slice(end, end + len(process.angles))
            end = rows.stop
            block, part = curvature[rows, rows], scaled[rows]
            slopes += [0.5 * np.sum(block * slope.T) - 0.5 * part @ slope @ part for slope in process.slopes(own)]
        return value, np.array(slopes)

    def most_probable(self, likelihood: Quadratic, start: FloatArray) -> FloatArray:
        """Logarithms of the amplitudes of greatest evidence, from a start, each with a wide prior about its own."""
        first = self.first
        least = np.concatenate([process.least.logarithms for process in self.processes])
        greatest = np.concatenate([process.greatest.logarithms for process in self.processes])

        def cost(logarithms: FloatArray) -> tuple[float, FloatArray]:
            value, slopes = self.deviance(logarithms, likelihood)
            away = (logarithms - first) / _WIDE
            return value + 0.5 * float(away @ away), slopes + away / _WIDE

        bounds = list(zip(least, greatest, strict=True))
        found = minimize(cost, np.clip(start, least, greatest), jac=True, method="L-BFGS-B", bounds=bounds)
        return np.asarray(found.x)

    def posterior(self, logarithms: FloatArray, likelihood: Quadratic) -> tuple[FloatArray, FloatArray]:
        """Means (N,) and covariance (N, N) of the parameters."""
        covariance = self.covariance(logarithms)
        whole = np.eye(len(covariance)) + covariance @ likelihood.information
        answer = np.linalg.solve(whole, covariance)
        return answer @ likelihood.pull, 0.5 * (answer + answer.T)
