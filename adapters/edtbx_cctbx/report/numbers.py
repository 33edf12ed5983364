"""Numbers that every report of a comparison shows: those of single frames, and the mean thickness of a law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from libtbx.utils import format_float_with_standard_uncertainty

from edtbx.arrays import FloatArray
from edtbx.intensities import thickness
from edtbx.intensities.nuisance import Nuisance
from edtbx.measurement.statistics import r_factor
from edtbx_cctbx.refinement.results import TheoryFit

LAWS = {
    "slab": r"F(\t) = 0 for \t < 1, F(1) = 1",
    "wedge": r"F(\t) = \t",
    "cylinder": r"F(\t) = 1 - ( 1 - \t^2^)^1/2^",
    "lens": r"F(\t) = \t^2^",
    "thin": r"F(\t) = 1 - ( 1 - \t )^2^",
}
r"""Cumulative distribution of \t = t/t~m~ for every law with one parameter, in the letters of CIF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameNumbers:
    """One frame under one theory: its rows, R(obs) (NaN without observed rows), scale, centre in degrees, greatest thickness
    in Å and spread in degrees, and the s.u.s of these (NaN where they are not known).
    """

    id: int
    n_all: int
    n_obs: int
    r_obs: float
    scale: float
    centre_degrees: float
    thickness: float
    spread_degrees: float
    scale_su: float
    centre_degrees_su: float
    thickness_su: float
    spread_degrees_su: float


def frame_numbers(fit: TheoryFit) -> list[FrameNumbers]:
    """The frames of a theory, in the order of its observations."""
    observations = fit.observations
    columns = zip(
        observations.frame_ids,
        _by_frame(fit.nuisance),
        _by_frame(_uncertainties(fit)),
        *(observations.split(amplitude) for amplitude in amplitudes(fit)),
        observations.split(observations.reflections.observed),
        strict=True,
    )
    return [
        FrameNumbers(
            id=frame_id,
            n_all=len(f_obs),
            n_obs=int(observed.sum()),
            r_obs=r_factor(f_obs[observed], f_calc[observed]),
            **own,
            **{f"{name}_su": value for name, value in sus.items()},
        )
        for frame_id, own, sus, f_obs, f_calc, observed in columns
    ]


def _by_frame(nuisance: Nuisance) -> list[dict[str, float]]:
    """Scale, centre, thickness and spread of every frame."""
    columns = {
        "scale": nuisance.scales,
        "centre_degrees": np.degrees(nuisance.centres),
        "thickness": nuisance.thicknesses,
        "spread_degrees": np.degrees(nuisance.sigmas),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _uncertainties(fit: TheoryFit) -> Nuisance:
    """S.u.s of the nuisance parameters; NaN where they are not known."""
    if fit.least_squares is not None:
        return fit.least_squares.nuisance_su
    if fit.learnt is not None:
        return fit.learnt.su
    unknown = np.full(len(fit.nuisance.scales), np.nan)
    return Nuisance(shape=fit.nuisance.shape, thickness=np.nan, sigma=np.nan, centres=unknown, scales=unknown)


OUTLIER = 5.0
"""Residuals of so many times the usual size are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A row far off: its residual in units of the usual weighted one, positive where the measured intensity is larger."""

    frame: int
    hkl: tuple[int, int, int]
    i_obs: float
    sigma: float
    i_calc: float
    residual: float


def outliers(fit: TheoryFit) -> list[Outlier]:
    """The rows that a model fits worst, the worst first; none where least squares was not used."""
    if fit.least_squares is None:
        return []
    measured = fit.observations.reflections
    residuals = fit.least_squares.residuals
    order = np.argsort(-np.abs(residuals))
    return [
        Outlier(
            frame=int(measured.frame_id[n]),
            hkl=(int(measured.hkl[n, 0]), int(measured.hkl[n, 1]), int(measured.hkl[n, 2])),
            i_obs=float(measured.intensity[n]),
            sigma=float(measured.sigma[n]),
            i_calc=float(fit.i_calc[n]),
            residual=float(residuals[n]),
        )
        for n in order[: np.count_nonzero(np.abs(residuals) > OUTLIER)]
    ]


def amplitudes(fit: TheoryFit) -> tuple[FloatArray, FloatArray]:
    """√I_obs and √I_calc (M,) of the observations, negative intensities as zero."""
    f_obs, f_calc = (np.sqrt(np.maximum(i, 0.0)) for i in (fit.observations.reflections.intensity, fit.i_calc))
    return f_obs, f_calc


def with_su(value: float, su: float, digits: int) -> str:
    """With its s.u. in brackets, or with some digits where it was not refined."""
    return str(format_float_with_standard_uncertainty(value, su)) if su > 0.0 else f"{value:.{digits}f}"


def mean_thickness(nuisance: Nuisance) -> float:
    """Mean thickness in Å over the diffracting area; for the law ``free`` it is the thickness itself."""
    return thickness.mean_thickness(nuisance.shape, nuisance.thickness)
