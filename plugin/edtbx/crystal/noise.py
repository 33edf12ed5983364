"""Noise of intensities about a model of the crystal: σ scaled, an error of the model that grows with I, and tails.

A residual is drawn from Student's t, scaled by the root of (a σ)² + (b I)² + c² I I₀ with I computed and I₀ typical: the
statistics of counting, a relative error of the model, and one of its amplitudes. On urea, σ is 0.4 of the one in the file,
the model errs by 14 % of I, and a few rows lie far out (3 degrees of freedom); on quartz 0.8, 5 % and 12.

References
----------
K. L. Lange, R. J. A. Little & J. M. G. Taylor, J. Am. Stat. Assoc. 84, 881 (1989), doi:10.1080/01621459.1989.10478852.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import digamma, gammaln

from edtbx.arrays import FloatArray

_BOX = ((0.08, 20.0), (1e-3, 1.0), (1e-3, 1.0), (1.5, 60.0))
"""Least and greatest factor on σ, relative error, error of amplitudes, and degrees of freedom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Widths of the distribution of residuals.

    Attributes
    ----------
    of_sigma, of_intensity, of_amplitude : float
        The factors a, b and c.
    freedom : float
        Degrees of freedom of Student's t: the fewer, the heavier the tails.
    typical : float
        The intensity I₀.
    """

    of_sigma: float
    of_intensity: float
    of_amplitude: float
    freedom: float
    typical: float

    @classmethod
    def at_first(cls, observed: FloatArray) -> Noise:
        """Where fits to intensities (M,) start."""
        positive = observed[observed > 0.0]
        typical = float(np.median(positive)) if len(positive) else 1.0
        return cls(of_sigma=1.5, of_intensity=0.1, of_amplitude=0.1, freedom=4.5, typical=typical)

    def squared_scales(self, sigma: FloatArray, calculated: FloatArray) -> FloatArray:
        """Squared scale (M,) of the distribution at s.u.s and computed intensities (M,)."""
        return np.asarray(
            np.array([self.of_sigma, self.of_intensity, self.of_amplitude]) ** 2 @ self._parts(sigma, calculated)
        )

    def variances(self, squares: FloatArray, sigma: FloatArray, calculated: FloatArray) -> FloatArray:
        """Variance (M,) of each row, given the square (M,) of its residual: that of the normal distribution which it was
        drawn from, where t is a mixture of these.
        """
        scales = self.squared_scales(sigma, calculated)
        return (self.freedom * scales + squares) / (self.freedom + 1.0)

    def fitted(self, squares: FloatArray, sigma: FloatArray, calculated: FloatArray, shares: FloatArray) -> Noise:
        """The noise of greatest likelihood for squared residuals (M,), from a start here.

        Parameters
        ----------
        squares : (M,)
            With the variance added that the uncertainty of ``calculated`` (M,) gives them.
        shares : (M,)
            How many rows share the weight of each.
        """
        parts = self._parts(sigma, calculated)

        def cost(logs: FloatArray) -> tuple[float, FloatArray]:
            of_parts, freedom = np.exp(2.0 * logs[:3]), math.exp(logs[3])
            scales = of_parts @ parts
            ratio = squares / scales
            tail = np.log1p(ratio / freedom)
            constant = gammaln((freedom + 1.0) / 2.0) - gammaln(freedom / 2.0) - 0.5 * math.log(freedom)
            value = 0.5 * np.log(scales) + 0.5 * (freedom + 1.0) * tail - constant
            by_scales = 0.5 / scales * (1.0 - (freedom + 1.0) * ratio / (freedom + ratio)) / shares
            by_constant = 0.5 * (digamma((freedom + 1.0) / 2.0) - digamma(freedom / 2.0) - 1.0 / freedom)
            by_tail = 0.5 * (tail - (freedom + 1.0) / freedom * ratio / (freedom + ratio))
            by_freedom = freedom * (by_tail - by_constant)
            gradient = np.append(2.0 * of_parts * (parts @ by_scales), np.sum(by_freedom / shares))
            return float(np.sum(value / shares)), gradient

        box = np.log(_BOX)
        start = np.log([self.of_sigma, self.of_intensity, self.of_amplitude, self.freedom])
        found = minimize(cost, np.clip(start, *box.T), jac=True, method="L-BFGS-B", bounds=box)
        of_sigma, of_intensity, of_amplitude, freedom = np.exp(found.x).tolist()
        return replace(self, of_sigma=of_sigma, of_intensity=of_intensity, of_amplitude=of_amplitude, freedom=freedom)

    def _parts(self, sigma: FloatArray, calculated: FloatArray) -> FloatArray:
        """What each factor multiplies once squared, (3, M)."""
        positive = np.maximum(calculated, 0.0)
        return np.stack([sigma**2, positive**2, self.typical * positive])
