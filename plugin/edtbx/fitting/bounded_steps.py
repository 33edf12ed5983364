"""Steps of least squares where residuals are large: curvature learnt from steps before, every parameter within bounds."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.optimize

from edtbx.arrays import FloatArray

_LARGEST_STEP = 4.0
"""No parameter moves by more than so many usual shifts in a cycle."""

_LEAST_CURVATURE = 0.1
"""Steps that show less than this part of the expected curvature teach nothing."""


def corrected(matrix: FloatArray, correction: FloatArray | None) -> FloatArray:
    """The normal matrix with the correction that was found on other frames or before, where that leaves it definite."""
    if correction is None or correction.shape != matrix.shape:
        return matrix
    try:
        np.linalg.cholesky(matrix + correction)
    except np.linalg.LinAlgError:
        return matrix
    return matrix + correction


def curvature(matrix: FloatArray, secants: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """A normal matrix, corrected by what the steps so far have shown of the second derivatives (BFGS).

    Residuals of dynamical intensities are large, and Gauss-Newton takes the curvature along some parameters, such as
    displacements of hydrogen, for twice what it is: without the correction, steps shrink by a fifth a cycle.
    """
    for step, change in secants:
        across = matrix @ step
        along, measured = float(step @ across), float(step @ change)
        if measured > _LEAST_CURVATURE * along:
            matrix = matrix - np.outer(across, across) / along + np.outer(change, change) / measured
    return matrix


def bounded_step(matrix: FloatArray, right: FloatArray, usual: FloatArray, last: FloatArray) -> FloatArray:
    """The solution (P,) of normal equations with bounds: a few usual shifts, and half of the last step (P,) or (0,) for what
    went farther than is usual and now comes back.

    The others move as suits those that are held. Torsions of hydroxyls overshoot: the intensities hardly know them, and
    depend on them like a cosine.
    """
    upper = _LARGEST_STEP * usual
    lower = -upper
    if len(last):
        upper = np.where(last < -usual, -last / 2.0, upper)
        lower = np.where(last > usual, -last / 2.0, lower)
    root = np.linalg.cholesky(matrix * np.outer(usual, usual))
    step = scipy.optimize.lsq_linear(
        root.T,
        scipy.linalg.solve_triangular(root, usual * right, lower=True),
        bounds=(lower / usual, upper / usual),
        method="bvls",
    )
    return np.asarray(usual * step.x)
