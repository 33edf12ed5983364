"""What fits of nuisance parameters foretell of rows that they did not see."""

from dataclasses import replace

import numpy as np
import pytest

from edtbx.crystal.law import fit_law
from edtbx.crystal.left_out import fitted_nearby, foretold, fraction_of, parts_of, r_foretold
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.fitting.nuisance_fit import fit_nuisance
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance, intensity_weights

GRID = Grid(y=np.radians(np.linspace(-0.2, 0.2, 9)), thickness=np.linspace(50.0, 1500.0, 30))
TRUTH = Nuisance(
    shape="wedge",
    thickness=900.0,
    sigma=np.radians(0.06),
    centres=np.radians(np.linspace(-0.05, 0.05, 8)),
    scales=np.linspace(0.8, 1.3, 8),
)
BOUNDS = NuisanceBounds(shapes=("wedge",))


def made_up(rows, noise, seed=0, truth=TRUTH):
    """Cubes of rocking curves whose measured intensities obey the truth but for noise, a fraction of the mean."""
    rng = np.random.default_rng(seed)
    cubes = []
    for frame in range(len(truth.scales)):
        place, width = rng.uniform(-0.2, 0.2, (rows, 1)), rng.uniform(0.05, 0.2, (rows, 1))
        over_y = 1.0 / (1.0 + ((np.degrees(GRID.y) - place) / width) ** 2)
        over_t = 1.0 + np.sin(GRID.thickness * rng.uniform(0.002, 0.02, (rows, 1)) + rng.uniform(0.0, 6.0, (rows, 1)))
        intensities = 100.0 * np.einsum("my,mt->ymt", over_y, over_t)
        cubes.append(FrameCube(frame_id=frame, intensities=intensities, observed=np.zeros(rows), weights=np.ones(rows)))
    exact = truth.intensities(GRID, cubes)
    sigma = noise * float(np.mean(exact))
    return [
        replace(
            cube,
            observed=i + sigma * rng.standard_normal(rows),
            weights=intensity_weights(i, np.full(rows, sigma)),
        )
        for cube, i in zip(cubes, exact, strict=True)
    ], exact


def from_nearby(nuisance):
    """Fits from the parameters of all rows, as programs make them."""
    bounds = replace(BOUNDS, shapes=(nuisance.shape,))
    return lambda cubes, places, _: fitted_nearby(cubes, GRID, bounds, nuisance.at(places))


def test_rows_of_a_number_stay_together_in_parts_of_like_size():
    numbers = np.random.default_rng(1).integers(0, 101, 1000) * 7
    part = parts_of(numbers, 5)
    for number in np.unique(numbers):
        assert len(set(part[numbers == number])) == 1
    different = [len(np.unique(numbers[part == one])) for one in range(5)]
    assert max(different) - min(different) <= 1
    np.testing.assert_array_equal(part, parts_of(numbers, 5))
    left_out = fraction_of(numbers, 0.1)
    assert len(np.unique(numbers[left_out])) == pytest.approx(10.1, abs=1.0)
    assert not set(numbers[left_out]) & set(numbers[~left_out])
    assert np.count_nonzero(fraction_of(np.arange(3), 0.01)) == 1


def test_a_row_does_not_count_for_what_is_foretold_of_it():
    cubes, _ = made_up(20, 0.05)
    nuisance = fit_nuisance(cubes, GRID, BOUNDS)
    parts = [parts_of(np.arange(20) + 20 * n, 4) for n in range(len(cubes))]
    found = foretold(cubes, GRID, parts, from_nearby(nuisance))
    out = parts[3] == 2
    wrong = replace(cubes[3], observed=np.where(out, 1e3 + cubes[3].observed, cubes[3].observed))
    again = foretold([*cubes[:3], wrong, *cubes[4:]], GRID, parts, from_nearby(nuisance))
    np.testing.assert_array_equal(again[3][out], found[3][out])
    assert np.all(again[3][~out] != found[3][~out])


def test_rows_left_out_fit_worse_by_what_the_parameters_cost():
    """χ² of M rows with P parameters is M − P of those that were fitted, and M + P of others, to first order."""
    inside, outside = [], []
    for seed in range(6):
        cubes, exact = made_up(12, 0.02, seed)
        nuisance = fit_nuisance(cubes, GRID, BOUNDS)
        fitted = nuisance.intensities(GRID, cubes)
        found = foretold(cubes, GRID, [np.arange(12)] * len(cubes), from_nearby(nuisance))
        for cube, i, one, other in zip(cubes, exact, fitted, found, strict=True):
            weights = np.median(cube.weights) * np.ones_like(i)
            inside.append(weights @ ((cube.observed - one) ** 2))
            outside.append(weights @ ((cube.observed - other) ** 2))
    ratio = np.sum(outside) / np.sum(inside)
    assert 1.15 < ratio < 2.2


def test_frames_with_hardly_any_rows_left_are_not_foretold():
    cubes, _ = made_up(20, 0.05)
    few = cubes[5]
    few = replace(few, intensities=few.intensities[:, :3], observed=few.observed[:3], weights=few.weights[:3])
    cubes = [*cubes[:5], few, *cubes[6:]]
    parts = [np.arange(len(cube.observed)) % 2 for cube in cubes]
    found = foretold(cubes, GRID, parts, from_nearby(fit_nuisance(cubes, GRID, BOUNDS)))
    assert np.all(np.isnan(found[5]))
    assert all(np.all(np.isfinite(found[n])) for n in range(len(cubes)) if n != 5)


@pytest.mark.parametrize(("law", "thickness"), [("slab", 600.0), ("wedge", 1200.0), ("lens", 900.0), ("thin", 1400.0)])
def test_the_law_is_the_one_that_foretells_best(law, thickness):
    truth = replace(TRUTH, shape=law, thickness=thickness)
    cubes, _ = made_up(40, 0.05, truth=truth)
    numbers = [np.arange(40 * n, 40 * (n + 1)) for n in range(8)]
    found = fit_law(cubes, GRID, NuisanceBounds(), numbers)
    assert found.shape == law
    assert found.thickness == pytest.approx(thickness, rel=0.05)
    others = NuisanceBounds(shapes=tuple(name for name in NuisanceBounds().shapes if name != law))
    other = fit_law(cubes, GRID, others, numbers)
    r, worse = (r_foretold(cubes, GRID, numbers, from_nearby(one)) for one in (found, other))
    assert r < worse
    assert fit_law(cubes, GRID, NuisanceBounds(shapes=(other.shape,)), numbers).shape == other.shape


def test_a_law_in_use_stays_unless_another_is_clearly_better():
    cubes, _ = made_up(20, 0.5)
    numbers = [np.arange(20 * n, 20 * (n + 1)) for n in range(8)]
    laws = ("wedge", "thin", "lens")
    fits = {law: fit_nuisance(cubes, GRID, NuisanceBounds(shapes=(law,))) for law in laws}
    r = {law: r_foretold(cubes, GRID, numbers, from_nearby(fit)) for law, fit in fits.items()}
    alike = [law for law in laws if 1.0 < r[law] / min(r.values()) < 1.019]
    worse = [law for law in laws if r[law] / min(r.values()) > 1.021]
    assert alike
    assert worse
    for law in alike:
        assert fit_law(cubes, GRID, NuisanceBounds(shapes=laws), numbers, in_use=law).shape == law
    for law in worse:
        assert fit_law(cubes, GRID, NuisanceBounds(shapes=laws), numbers, in_use=law).shape != law
