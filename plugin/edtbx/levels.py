"""Levels of sampling: coarse to find the nuisance parameters, fine for the result.

The error of a level, as R of √I against 240 tilts × 0.02°, is stated with the levels below; features of the intensity
are 1/(t |g|) wide in both angles.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edtbx.forward import Sampling
from edtbx.nuisance import Choices, Nuisance
from edtbx.solvers.block import Accuracy
from edtbx.thickness import mean_thickness

COARSE = Sampling(
    accuracy=Accuracy(s_max=0.03, s_strong=0.006, tolerance=1e-4),
    tilt_thickness=800.0,
    spread_reach=float(np.radians(0.4)),
    spread_spacing=float(np.radians(0.1)),
    thickness_max=3000.0,
    thickness_step=50.0,
)
"""Where the thickness is not yet known: an error of 2 to 5 % on crystals of 1000 to 2000 Å."""


def fine_sampling(nuisance: Nuisance, choices: Choices, s_max: float) -> Sampling:
    """The level for the result, from what a coarse one found about thickness and spread.

    The y nodes reach as far as centre and 2.5 σ may go; where the spread is
    narrow they stand closer, because then few of them share the weight.
    """
    thickest = nuisance.thickness if nuisance.histogram is None else float(nuisance.histogram[0, -1])
    sigma = max(nuisance.sigma, float(np.radians(0.02)))
    spacing = float(np.clip(sigma / 2.0, np.radians(0.03), np.radians(0.06)))
    centre = choices.centre_max if choices.refine_centres else 0.0
    return Sampling(
        accuracy=Accuracy(s_max=s_max, s_strong=0.01, tolerance=1e-5),
        tilt_thickness=mean_thickness(nuisance.shape, nuisance.thickness),
        spread_reach=min(centre, float(np.abs(nuisance.centres).max()) + spacing) + 2.5 * sigma,
        spread_spacing=spacing,
        thickness_max=1.3 * thickest,
        thickness_step=1.3 * thickest / 80.0,
    )


def draft_sampling(nuisance: Nuisance, choices: Choices) -> Sampling:
    """The level at which atoms move: a sixth of the waves of the fine one, to be corrected by it."""
    fine = fine_sampling(nuisance, choices, s_max=0.01)
    return replace(
        fine,
        tilts=32,
        spread_spacing=max(2.5 * fine.spread_spacing, float(np.radians(0.1))),
        thickness_step=2.0 * fine.thickness_step,
    )
