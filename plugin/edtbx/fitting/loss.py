"""Robust losses as factors on least-squares weights.

The factors are computed anew from the residuals in every cycle. Some intensities are wrong
by many s.u.s for reasons that no model of the crystal holds; on urea, one reflection of 600 makes an eighth of the sum
of squares.

References
----------
P. J. Huber & E. M. Ronchetti, Robust Statistics (2009), doi:10.1002/9780470434697, section 7.6 (s.u.s, equation 7.82).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from edtbx.arrays import FloatArray

LOSSES: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "squares": np.ones_like,
    "huber": lambda u: 1.0 / np.maximum(np.abs(u) / 2.0, 1.0),
    "cauchy": lambda u: 1.0 / (1.0 + (u / 3.0) ** 2),
}
"""Factor on the weight of a residual of u times the usual size: least squares, and losses that grow as |u| or ln |u| for
large u. With either, normal residuals lose 1 to 3 % of their information."""

_CLASSES, _FEWEST = 10, 30
"""Most classes of intensity, and least rows in one."""

_NORMAL = 0.6745
"""Median of |u| for normal u of standard deviation 1."""


def usual_sizes(residuals: FloatArray, calculated: FloatArray) -> FloatArray:
    """Usual size (M,) of weighted residuals (M,) at their intensity, robust against outliers.

    The usual size is a standard deviation, from the median over classes of rising calculated intensity: models err more
    where intensities are high than weights allow for, and strong reflections as such are no outliers.
    """
    order = np.argsort(calculated, kind="stable")
    classes = np.array_split(order, max(1, min(_CLASSES, len(order) // _FEWEST)))
    middles = [float(np.median(calculated[rows])) for rows in classes]
    sizes = [float(np.median(np.abs(residuals[rows]))) / _NORMAL for rows in classes]
    return np.asarray(np.maximum(np.interp(calculated, middles, sizes), 1e-300))


def loss_factors(name: str, standardised_residuals: FloatArray) -> FloatArray:
    """Factors (M,) of a loss on the weights, for residuals (M,) in units of their usual size.

    Raises
    ------
    KeyError
        The name is not in :data:`LOSSES`.
    """
    return LOSSES[name](standardised_residuals)


def variance_factor(name: str) -> float:
    """Factor from Σ w r²/dof · (design† w design)⁻¹, w with the factors of a loss, to the covariance matrix; 1 for squares.

    For normal residuals, E[f] E[(u f)²]/(E[(u f)′]² E[u² f]).
    """
    nodes, shares = hermegauss(200)
    factor = LOSSES[name]
    influence = nodes * factor(nodes)
    step = 1e-4
    slope = ((nodes + step) * factor(nodes + step) - (nodes - step) * factor(nodes - step)) / (2.0 * step)

    def mean(values: FloatArray) -> float:
        return float(shares @ values / shares.sum())

    return mean(factor(nodes)) * mean(influence**2) / (mean(slope) ** 2 * mean(nodes * influence))
