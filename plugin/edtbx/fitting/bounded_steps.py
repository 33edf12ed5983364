"""Bounded least-squares steps, with a normal matrix corrected by secants (BFGS) for large residuals.

References
----------
J. Nocedal & S. J. Wright, Numerical Optimization (2006), doi:10.1007/978-0-387-40065-5, equation 6.19 (BFGS update).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.optimize

from edtbx.arrays import FloatArray

_LARGEST_STEP = 4.0
"""Largest shift of a parameter in a cycle, in usual shifts."""

_LEAST_CURVATURE = 0.1
"""Steps that show less than this part of the expected curvature are not used."""


def corrected(matrix: FloatArray, correction: FloatArray | None) -> FloatArray:
    """Normal matrix (P, P) plus a correction from before or from other frames, where the sum is positive definite."""
    if correction is None or correction.shape != matrix.shape:
        return matrix
    try:
        np.linalg.cholesky(matrix + correction)
    except np.linalg.LinAlgError:
        return matrix
    return matrix + correction


def curvature(matrix: FloatArray, secants: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Normal matrix (P, P) corrected by the secants of former steps (BFGS): pairs of a step and the change of gradient.

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
    """Solution (P,) of the normal equations within bounds.

    A parameter moves by a few usual shifts at most; one that went farther than usual and now comes back, by half of its last
    step. Torsions of hydroxyls overshoot: the intensities hardly determine them, and depend on them like a cosine.

    Parameters
    ----------
    matrix, right : (P, P), (P,)
        Normal matrix and right-hand side.
    usual : (P,)
        Usual shifts of the parameters.
    last : (P,) or (0,)
        The last step, if there was one.
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
