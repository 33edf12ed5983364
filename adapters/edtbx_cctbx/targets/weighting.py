"""SHELX weights with the a that makes the analysis of variance flattest over intensity."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from smtbx.refinement.least_squares import mainstream_shelx_weighting

from edtbx.arrays import FloatArray
from edtbx_cctbx.arrays import from_numpy, to_numpy

_BINS = 10
_LARGEST = 0.2
"""Greatest a tried."""


def flat_weighting(observed: FloatArray, sigma: FloatArray, calculated: FloatArray) -> Any:
    """SHELX weights w = 1/(σ² + (a P)²), P = (max(I_obs, 0) + 2 I_calc)/3, with the a of the flattest analysis of variance.

    Over ten classes of rising I_calc, the mean of w (I_obs − I_calc)² is to vary as little as possible (its logarithm, by
    least squares). b stays 0: every frame has a scale of its own, so an absolute intensity means nothing.

    References
    ----------
    G. M. Sheldrick, Acta Cryst. C71, 3 (2015), doi:10.1107/S2053229614024218.
    """
    squares = (observed - calculated) ** 2
    classes = np.array_split(np.argsort(calculated), min(_BINS, max(len(calculated) // 20, 1)))

    def unevenness(root_a: float) -> float:
        weighted = squares * weights_of(mainstream_shelx_weighting(a=root_a**2, b=0), observed, sigma, calculated)
        return float(np.var(np.log([max(weighted[rows].mean(), 1e-30) for rows in classes])))

    minimum = minimize_scalar(unevenness, bounds=(0.0, np.sqrt(_LARGEST)), method="bounded", options={"xatol": 1e-3})
    return mainstream_shelx_weighting(a=round(float(minimum.x**2), 4), b=0)


def weights_of(scheme: Any, observed: FloatArray, sigma: FloatArray, calculated: FloatArray) -> FloatArray:
    """Weights (M,) of scaled intensities by a weighting scheme of smtbx."""
    columns = [from_numpy(column) for column in (observed, sigma, calculated)]
    return to_numpy(scheme(*columns, 1.0))
