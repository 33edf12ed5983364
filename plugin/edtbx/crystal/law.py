"""The thickness law: the likeliest, unless another one foretells clearly better what was left out.

Laws of other shapes fit much alike in sample, at other thicknesses. Of halves of the indices of urea, the likelihood chooses
any of four, 700 to 1280 Å thick on average, with which R(obs) of the other half is 6 % above that of the best law; chosen in
this way, 1.5 % above. Four more crystals are within 0.4 % either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edtbx.arrays import BoolArray, IntArray
from edtbx.crystal.left_out import fitted_nearby, r_foretold
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.fitting.nuisance_fit import fit_nuisance, misfit, negative_log_likelihood
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance

_ENOUGH_WORSE = 1.15
"""Misfit over the least one with which a law is out of the question."""

_BETTER = 0.98
"""Part of R below which another law takes the place of the likeliest, or of the one in use. Slab, wedge and lens foretell
urea without hydrogen alike within 1.5 %."""


def fit_law(
    cubes: Sequence[FrameCube],
    grid: Grid,
    bounds: NuisanceBounds,
    numbers: Sequence[IntArray],
    in_use: str | None = None,
) -> Nuisance:
    """Nuisance parameters that fit the cubes best, with the likeliest of the allowed laws, unless another one foretells
    indices left out clearly better.

    Costs a fit for each law, and three from a start nearby.

    Parameters
    ----------
    numbers : sequence of (M,) int
        Shared by rows that are left out together, for each frame.
    in_use : str, optional
        The law that stands in place of the likeliest.
    """
    laws = [shape for shape in bounds.shapes if shape != "free"]
    if len(laws) < 2:
        return fit_nuisance(cubes, grid, bounds)
    fits = [fit_nuisance(cubes, grid, replace(bounds, shapes=(law,))) for law in laws]
    misfits = [misfit(fit, grid, cubes) for fit in fits]
    near = [fit for fit, value in zip(fits, misfits, strict=True) if value <= _ENOUGH_WORSE * min(misfits)]
    first = in_use or min(near, key=lambda fit: negative_log_likelihood(fit, grid, cubes)).shape

    def r_of(found: Nuisance) -> float:
        def fit(some: list[FrameCube], places: list[int], _: list[BoolArray]) -> Nuisance:
            return fitted_nearby(some, grid, bounds, found.at(places))

        r = r_foretold(cubes, grid, numbers, fit)
        return _BETTER * r if found.shape == first else r

    best = min(near, key=r_of) if len(near) > 1 else near[0]
    return fit_nuisance(cubes, grid, replace(bounds, shapes=(best.shape, "free"))) if "free" in bounds.shapes else best
