"""Maximum a posteriori change of structure factors, intensities taken as linear in it.

The prior of the change δ is a normal distribution of zero mean and known shape: that of atoms scattered
anywhere in the cell, say. What no intensity depends on then stays zero, and what several depend on is shared out. The
strength of the prior, λ = (variance of δ)/(variance of the residuals), maximises the evidence.

References
----------
C. E. Rasmussen & C. K. I. Williams, Gaussian Processes for Machine Learning (2006), chapter 2 and section 5.4 (evidence).
C. C. Paige & M. A. Saunders, ACM Trans. Math. Softw. 8, 43 (1982), doi:10.1145/355984.355989 (LSQR, and damping).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from scipy.optimize import minimize_scalar

from edtbx.arrays import BoolArray, FloatArray
from edtbx.fitting.least_squares import FrameEquations

_ROWS = 2000
"""Most rows for the estimate of λ, which takes every n-th. Costs O(rows³) a trial."""

_RATIOS = (1e-6, 1e6)
"""Least and greatest λ tried."""

_FREE = 10.0
"""Prior of parameters that have none: they may change the residuals by so many times their length."""

_CLOSE, _MOST_ROUNDS = 1e-4, 500
"""Residual of LSQR at which, and rounds after which it ends: some 30. What is hardly told by the data comes last, and is
mostly what no model of the crystal explains: converged (1e-6), the step changes by a seventh, and hydrogen left out of
paracetamol stands 1.5 times as high as the highest false peak in place of 2.5, of urea 1.8 in place of 2.0."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MapEstimate:
    """Estimate of δ (P,), in units of its expected size, with λ (``ratio``) and the variance ``noise`` of the residuals.

    ``followed`` (Q,) are the changes of the parameters that follow; ``design`` (M, N) holds the derivatives by all that
    changes, δ first, each in units of what its prior expects of it, where the residuals are in units of √noise.
    """

    parameters: FloatArray
    ratio: float
    noise: float
    followed: FloatArray
    design: FloatArray

    def variances(self, functionals: FloatArray) -> FloatArray:
        """Variances (K,) of linear functions (K, P) of δ, given the residuals.

        C (1 − Dᵀ (D Dᵀ + 1)⁻¹ D) Cᵀ = C (Dᵀ D + 1)⁻¹ Cᵀ, of which the smaller matrix is inverted. Costs
        O(M N min(M, N)).
        """
        rows, columns = self.design.shape
        units = np.zeros((columns, len(functionals)), dtype=self.design.dtype)
        units[: functionals.shape[1]] = math.sqrt(self.ratio * self.noise) * functionals.T
        if columns <= rows:
            return np.asarray(np.sum(_half_solved(self.design.T @ self.design, units) ** 2, axis=0), dtype=float)
        told = np.sum(_half_solved(self.design @ self.design.T, self.design @ units) ** 2, axis=0)
        return np.asarray(np.sum(units**2, axis=0) - told, dtype=float)


def map_estimate(frames: Sequence[FrameEquations], shared: BoolArray, followers: int = 0) -> MapEstimate:
    """Estimate from the equations of all frames, whose parameters of the structure have expected size 1.

    The last Q of these, the ``followers``, are no part of δ: they follow as if measured to be 0 ± 1, whatever λ is. So do
    scales, centres, spread and thickness, which nothing holds; ``shared`` (2,) says whether the latter two do. Costs two
    products with the (M, P + Q) derivatives for each of some hundred rounds, and their square on some of the rows.
    """
    residual = np.concatenate([frame.residual for frame in frames])
    number = frames[0].parameters - followers
    outer = number + followers
    first = [frame.along_design for frame in frames]
    nuisance_columns = _nuisance_columns(frames, first, shared, float(np.linalg.norm(residual)))
    whole = np.empty((len(residual), outer + nuisance_columns.shape[1]), dtype=np.float32)
    whole[:, outer:] = nuisance_columns
    end = 0
    for frame in frames:  # one at a time: most of the memory is theirs
        start, end = end, end + len(frame.observed)
        whole[start:end, :outer] = frame.design[:, 3:]
    every = slice(None, None, max(1, math.ceil(len(residual) / _ROWS)))
    sample = whole[every].astype(float)
    ratio, noise = _most_probable(sample[:, :number], sample[:, number:], residual[every])
    # least squares: |design δ + nuisance_columns ε − residual|² + |δ|²/λ + |ε|²
    whole[:, :number] *= math.sqrt(ratio)
    operator = scipy.sparse.linalg.LinearOperator(  # or each product would make a copy in double precision
        whole.shape,
        matvec=lambda v: whole @ v.astype(np.float32),
        rmatvec=lambda v: whole.T @ v.astype(np.float32),
        dtype=float,
    )
    solution, *_ = scipy.sparse.linalg.lsqr(
        operator, residual, damp=1.0, atol=_CLOSE, btol=_CLOSE, iter_lim=_MOST_ROUNDS
    )
    return MapEstimate(
        parameters=math.sqrt(ratio) * solution[:number],
        ratio=ratio,
        noise=noise,
        followed=solution[number : number + followers],
        design=np.asarray(whole),
    )


def _nuisance_columns(
    frames: Sequence[FrameEquations], designs: Sequence[FloatArray], shared: BoolArray, length: float
) -> FloatArray:
    """Derivatives (M, N) by centres, spread and thickness, each in units of its expected size."""
    columns = []
    for place, (frame, design) in enumerate(zip(frames, designs, strict=True)):
        if math.isinf(frame.prior):
            continue
        along = [np.zeros(len(frame_design)) for frame_design in designs]
        along[place] = design[:, 0]
        column = np.concatenate(along)
        columns.append(column / max(frame.prior, float(np.linalg.norm(column)) / (_FREE * length), 1e-300))
    for number in np.flatnonzero(shared):
        column = np.concatenate([design[:, 1 + number] for design in designs])
        columns.append(column * (_FREE * length / max(float(np.linalg.norm(column)), 1e-300)))
    return np.stack(columns, axis=1) if columns else np.zeros((sum(len(frame_design) for frame_design in designs), 0))


def _half_solved(square: FloatArray, right: FloatArray) -> FloatArray:
    """L⁻¹ right for square + 1 = L Lᵀ; the square is overwritten."""
    square[np.diag_indices(len(square))] += 1.0
    root = scipy.linalg.cholesky(square, lower=True, overwrite_a=True)
    return np.asarray(scipy.linalg.solve_triangular(root, right, lower=True))


def _most_probable(design: FloatArray, nuisance_columns: FloatArray, residual: FloatArray) -> tuple[float, float]:
    """λ and noise of greatest evidence for the residuals (M,).

    These are normal, of covariance noise · (1 + N Nᵀ + λ D Dᵀ) for nuisance columns N and design D.
    """
    fixed, square, number = nuisance_columns @ nuisance_columns.T, design @ design.T, len(residual)
    fixed[np.diag_indices(number)] += 1.0

    def noise_and_deviance(log_ratio: float) -> tuple[float, float]:
        """Best noise for ln λ, and −2 times the logarithm of the evidence but for a constant."""
        root = scipy.linalg.cholesky(fixed + math.exp(log_ratio) * square, lower=True)
        noise = float(np.sum(scipy.linalg.solve_triangular(root, residual, lower=True) ** 2)) / number
        return noise, number * math.log(noise) + 2.0 * float(np.sum(np.log(np.diag(root))))

    bounds = tuple(math.log(limit) for limit in _RATIOS)
    best = float(
        minimize_scalar(lambda x: noise_and_deviance(x)[1], bounds=bounds, method="bounded", options={"xatol": 0.1}).x
    )
    return math.exp(best), noise_and_deviance(best)[0]
