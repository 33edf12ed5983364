"""R factors of dynamical refinement, as defined in published refinements.

Fo = √max(I, 0); σ(F) = σ(I)/(2 Fo), or 5 √σ(I) where I < 0.01 σ(I); w = 1/(σ²(F) + (0.01 Fo)²); observed: I > 3 σ(I).
R = Σ|Fo − Fc|/Σ Fo; wR = √(Σ w (Fo − Fc)²/Σ w Fo²). MR is R after averaging I_obs and I_calc over symmetry equivalents
and frames, observed by σ = √(Σ σ²)/n.

References
----------
P. B. Klar et al., Nat. Chem. 15, 848 (2023), doi:10.1038/s41557-023-01186-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edtbx.arrays import BoolArray, FloatArray, IntArray

DEFINITION = (
    "Fo = sqrt(max(I,0)); sigma(F) = sigma(I)/(2 Fo), or 5 sqrt(sigma(I)) where I < 0.01 sigma(I); "
    "w = 1/(sigma(F)^2 + (0.01 Fo)^2); observed: I > 3 sigma(I); R = sum|Fo-Fc|/sum Fo; "
    "wR = sqrt(sum w(Fo-Fc)^2/sum w Fo^2); MR: R of intensities averaged over equivalents and frames"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """R factors (as fractions) and numbers of reflections; ``r_frames`` is the mean of R(obs) over frames."""

    r_obs: float
    wr_obs: float
    r_all: float
    wr_all: float
    mr_obs: float
    r_frames: float
    n_obs: int
    n_all: int


def r_factor(f_obs: FloatArray, f_calc: FloatArray) -> float:
    """Σ|Fo − Fc|/Σ Fo; NaN where there is nothing to divide by."""
    total = float(f_obs.sum())
    return float(np.abs(f_obs - f_calc).sum()) / total if total > 0.0 else float("nan")


def statistics(
    observed: FloatArray, sigma: FloatArray, calculated: FloatArray, frame_id: IntArray, unique: IntArray
) -> Statistics:
    """R factors, as fractions, of scaled intensities.

    Parameters
    ----------
    observed, sigma, calculated : (M,)
        I_obs, its s.u., and I_calc on the same scale.
    frame_id, unique : (M,) int
        Frame of each row, and a number shared by its symmetry equivalents.
    """
    f_obs, f_calc = np.sqrt(np.maximum(observed, 0.0)), np.sqrt(np.maximum(calculated, 0.0))
    weights = amplitude_weights(observed, sigma)
    strong = observed > 3.0 * sigma
    frames = [r_factor(f_obs[m], f_calc[m]) for m in (strong & (frame_id == n) for n in np.unique(frame_id)) if m.any()]
    return Statistics(
        r_obs=r_factor(f_obs[strong], f_calc[strong]),
        wr_obs=_weighted(f_obs, f_calc, weights, strong),
        r_all=r_factor(f_obs, f_calc),
        wr_all=_weighted(f_obs, f_calc, weights, np.ones_like(strong)),
        mr_obs=_merged(observed, sigma, calculated, unique),
        r_frames=float(np.mean(frames)) if frames else float("nan"),
        n_obs=int(strong.sum()),
        n_all=len(observed),
    )


def amplitude_weights(observed: FloatArray, sigma: FloatArray) -> FloatArray:
    """Weights w (M,) of amplitudes, as defined at the head of this module."""
    f_obs = np.sqrt(np.maximum(observed, 0.0))
    weak = observed < 0.01 * sigma
    sigma_f = np.where(weak, 5.0 * np.sqrt(sigma), sigma / (2.0 * np.where(weak, 1.0, f_obs)))
    return np.asarray(1.0 / (sigma_f**2 + (0.01 * f_obs) ** 2))


def _weighted(f_obs: FloatArray, f_calc: FloatArray, weights: FloatArray, rows: BoolArray) -> float:
    """Weighted R factor wR of the rows of a mask (M,)."""
    w, fo, fc = weights[rows], f_obs[rows], f_calc[rows]
    total = float(np.sum(w * fo * fo))
    return float(np.sqrt(np.sum(w * (fo - fc) ** 2) / total)) if total > 0.0 else float("nan")


def _merged(observed: FloatArray, sigma: FloatArray, calculated: FloatArray, unique: IntArray) -> float:
    """MR(obs), after averaging over the rows that share a number in ``unique`` (M,)."""
    _, group = np.unique(unique, return_inverse=True)
    count = np.bincount(group)
    mean_obs = np.bincount(group, observed) / count
    mean_calc = np.bincount(group, calculated) / count
    mean_sigma = np.sqrt(np.bincount(group, sigma**2)) / count
    strong = mean_obs > 3.0 * mean_sigma
    return r_factor(np.sqrt(mean_obs[strong]), np.sqrt(mean_calc[strong]))
