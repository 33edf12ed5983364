"""Scale, thickness law, spread and centres: found again from cubes that were made with known ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.fitting.nuisance_fit import fit_nuisance, misfit, polish_nuisance, rescale
from edtbx.intensities.nuisance import INSTABILITY, FrameCube, Grid, Nuisance, best_scale, intensity_weights
from edtbx.intensities.quadrature import Quadrature

GRID = Grid(y=Quadrature.spanning(1, np.radians(0.5), np.radians(0.06)).y, thickness=40.0 * np.arange(1, 41))
LAWS = NuisanceBounds().shapes
CENTRES = np.radians([0.06, -0.1, 0.0, 0.14])
SCALES = np.array([3.0, 0.5, 40.0, 1.0])


def cube_of(seed, m=40):
    """Pendellösung of M reflections with random extinction lengths, at random places across the scan (J, M, T)."""
    rng = np.random.default_rng(seed)
    extinction = rng.uniform(150.0, 1500.0, m)[:, None]
    detuning = (GRID.y[:, None] - rng.uniform(-0.01, 0.01, m))[:, :, None] * rng.uniform(0.5, 1.5, m)[:, None]
    effective = np.hypot(1.0 / extinction, detuning)
    each = np.sin(np.pi * GRID.thickness * effective) ** 2 / (extinction * effective) ** 2
    return np.ascontiguousarray(each)


def measured(truth, noise=0.0, rows=(40, 40, 40, 40), seed=0):
    """Cubes of four frames beside intensities made with the given nuisance parameters, written as plain sums."""
    rng = np.random.default_rng(seed)
    cubes = []
    for n, m in enumerate(rows):
        cube, over_y, over_t = cube_of(n)[:, :m], truth.over_spread(GRID)[n], truth.over_thickness(GRID)[n]
        true = np.zeros(m)
        for j, w_y in enumerate(over_y):
            for k, w_t in enumerate(over_t):
                true += truth.scales[n] * w_y * w_t * cube[j, :, k]
        sigma = np.full(m, 0.01 * true.mean())
        observed = true + noise * sigma * rng.normal(size=m)
        cubes.append(
            FrameCube(frame_id=n, intensities=cube, observed=observed, weights=intensity_weights(observed, sigma))
        )
    return cubes


def truth_of(shape="wedge", thickness=913.0, sigma=0.0016, **kwargs):
    return Nuisance(shape=shape, thickness=thickness, sigma=sigma, centres=CENTRES, scales=SCALES, **kwargs)


FACTORS = {"thickness_factors": np.array([0.8, 1.0, 1.1, 1.3]), "sigma_factors": np.array([1.5, 1.0, 0.7, 0.4])}


@pytest.mark.parametrize("factors", [{}, FACTORS])
def test_intensities_are_the_triple_sum(factors):
    truth = truth_of(**factors)
    cubes = measured(truth)
    for cube, calc in zip(cubes, truth.intensities(GRID, cubes), strict=True):
        np.testing.assert_allclose(calc, cube.observed, rtol=1e-12)


@pytest.mark.parametrize("shape", LAWS)
def test_what_the_cubes_were_made_with_is_found_again(shape):
    truth = truth_of(shape)
    found = fit_nuisance(measured(truth), GRID, NuisanceBounds())
    assert found.shape == shape
    # the last steps stop at 0.02 of a step of the grids
    assert found.thickness == pytest.approx(truth.thickness, abs=2.0)
    assert found.sigma == pytest.approx(truth.sigma, abs=np.radians(0.002))
    np.testing.assert_allclose(found.centres, truth.centres, atol=np.radians(0.002))
    np.testing.assert_allclose(found.scales, truth.scales, rtol=0.01)


def test_frames_may_have_a_thickness_and_spread_of_their_own():
    """Each as it is for frames that share these; so are derivatives."""
    truth = truth_of(**FACTORS)
    cubes = measured(truth)
    own = truth.intensities(GRID, cubes), truth.slopes(GRID, cubes), truth.thicknesses, truth.sigmas
    for n, (found, slopes, thickness, sigma) in enumerate(zip(*own, strict=True)):
        alone = replace(truth_of(), thickness=float(thickness), sigma=float(sigma))
        np.testing.assert_allclose(found, alone.intensities(GRID, cubes)[n], rtol=1e-12)
        np.testing.assert_allclose(slopes, alone.slopes(GRID, cubes)[n], rtol=1e-12)
    some = truth.at([3, 1])
    np.testing.assert_allclose(some.thicknesses, truth.thicknesses[[3, 1]])
    other = truth.updated(replace(truth_of(), thickness=700.0).at([0, 2]), [0, 2])
    np.testing.assert_allclose(other.sigmas, truth.sigmas)
    np.testing.assert_allclose(other.thicknesses, 700.0 * FACTORS["thickness_factors"])
    assert "730 to 1187 Å" in truth.describe()


def test_noise_spoils_little():
    truth = truth_of("lens")
    found = fit_nuisance(measured(truth, noise=1.0), GRID, NuisanceBounds())
    assert found.shape == "lens"
    assert found.thickness == pytest.approx(truth.thickness, rel=0.02)  # 160 intensities of 1 to 10 %
    assert found.sigma == pytest.approx(truth.sigma, rel=0.2)
    np.testing.assert_allclose(found.centres, truth.centres, atol=np.radians(0.03))


def test_no_spread_is_found_as_none():
    found = fit_nuisance(measured(truth_of(sigma=0.0)), GRID, NuisanceBounds(shapes=("wedge",)))
    assert found.sigma < np.radians(0.006)


def test_what_is_fixed_stays_fixed():
    bounds = NuisanceBounds(shapes=("slab",), thickness=777.0, sigma=np.radians(0.05), refine_centres=False)
    found = fit_nuisance(measured(truth_of()), GRID, bounds)
    assert (found.shape, found.thickness, found.sigma) == ("slab", 777.0, np.radians(0.05))
    assert np.all(found.centres == 0.0)


@pytest.mark.parametrize("shape", LAWS)
def test_the_fit_is_no_worse_than_the_truth(shape):
    truth = truth_of(shape)
    cubes = measured(truth, noise=1.0)

    def sum_of_squares(nuisance):
        pairs = zip(cubes, nuisance.intensities(GRID, cubes), strict=True)
        return sum(float(cube.weights @ (cube.observed - calc) ** 2) for cube, calc in pairs)

    found = fit_nuisance(cubes, GRID, NuisanceBounds())
    assert misfit(found, GRID, cubes) == pytest.approx(sum_of_squares(found), rel=1e-12)
    # the prior of the centres may cost a little
    assert sum_of_squares(found) < 1.05 * sum_of_squares(rescale(truth, GRID, cubes))


def test_a_frame_with_few_reflections_keeps_its_centre():
    truth = truth_of()
    cubes = measured(truth, rows=(40, 9, 40, 40))
    found = fit_nuisance(cubes, GRID, NuisanceBounds(shapes=("wedge",)))
    assert found.centres[1] == 0.0
    np.testing.assert_allclose(found.centres[[0, 2, 3]], truth.centres[[0, 2, 3]], atol=np.radians(0.021))


def test_the_prior_holds_frames_that_say_nothing_of_their_centre():
    truth = truth_of()
    cubes = measured(truth, noise=1.0)
    flat = np.broadcast_to(cubes[1].intensities.mean(axis=0), cubes[1].intensities.shape)
    cubes[1] = replace(cubes[1], intensities=flat)
    found = fit_nuisance(cubes, GRID, NuisanceBounds(shapes=("wedge",)))
    assert found.centres[1] == pytest.approx(0.0, abs=1e-12)


def test_a_free_histogram_explains_two_thicknesses():
    histogram = np.zeros((2, len(GRID.thickness)))
    histogram[0] = GRID.thickness
    histogram[1, [9, 30]] = 0.7, 0.3
    truth = truth_of("free", thickness=float(histogram[0] @ histogram[1]), histogram=histogram)
    cubes = measured(truth)
    bounds = NuisanceBounds(shapes=(*LAWS, "free"), sigma=truth.sigma)
    found = fit_nuisance(cubes, GRID, bounds)
    assert found.shape == "free"
    assert found.histogram[1].min() >= 0.0
    assert found.histogram[1].sum() == pytest.approx(1.0)
    assert found.thickness == pytest.approx(truth.thickness, rel=0.03)
    np.testing.assert_allclose(found.histogram[1][[9, 30]], [0.7, 0.3], atol=0.1)
    assert found.histogram[1][[8, 9, 10, 29, 30, 31]].sum() > 0.95


def test_a_free_histogram_needs_no_other_law_beside_it():
    found = fit_nuisance(measured(truth_of()), GRID, NuisanceBounds(shapes=("free",), sigma=np.radians(0.09)))
    assert found.shape == "free"
    assert found.histogram[1].sum() == pytest.approx(1.0)


def test_the_best_scale_minimises_and_is_never_negative():
    rng = np.random.default_rng(5)
    calc, sigma = rng.uniform(0.0, 2.0, 30), rng.uniform(0.1, 0.3, 30)
    observed = 7.0 * calc + rng.normal(size=30) * sigma
    w = 1.0 / (sigma**2 + (INSTABILITY * observed) ** 2)
    np.testing.assert_allclose(intensity_weights(observed, sigma), w, rtol=1e-14)
    best = minimize_scalar(lambda k: np.sum(w * (observed - k * calc) ** 2), bracket=(1.0, 10.0)).x
    assert best_scale(calc, observed, w) == pytest.approx(best, rel=1e-6)  # a minimum is flat: root of rounding
    assert best_scale(calc, -observed, w) == 0.0
    assert best_scale(np.zeros(30), observed, w) == 0.0


def test_a_few_strong_reflections_that_are_wrong_do_not_outvote_the_others():
    """The sum of squares is least where these few would have it; most others do not fit there at all."""
    truth, other = truth_of("slab"), truth_of("slab", thickness=400.0, sigma=0.0)
    cubes = []
    for cube, wrong in zip(measured(truth), other.intensities(GRID, measured(other)), strict=True):
        strong = np.argsort(-wrong)[:6]
        observed = cube.observed.copy()
        observed[strong] = 2.0 * wrong[strong]
        weights = intensity_weights(observed, 0.02 * cube.observed.mean())
        cubes.append(replace(cube, observed=observed, weights=weights))
    bounds = NuisanceBounds(shapes=("slab",))
    found, there = fit_nuisance(cubes, GRID, bounds), polish_nuisance(cubes, GRID, bounds, other)
    assert misfit(found, GRID, cubes) > misfit(there, GRID, cubes)
    assert found.thickness == pytest.approx(truth.thickness, rel=0.05)


@pytest.mark.parametrize("shape", LAWS)
def test_the_fit_ends_at_the_minimum_itself(shape):
    """Vertices of parabolas through the objective lie within thousandths of the s.u.s, which are 4 to 10 Å and 0.01°."""
    cubes, bounds = measured(truth_of(shape), noise=1.0), NuisanceBounds(shapes=(shape,))
    found = fit_nuisance(cubes, GRID, bounds)
    usual = [misfit(found.at([n]), GRID, [cube]) / 40 for n, cube in enumerate(cubes)]

    def objective(**changes):
        moved = rescale(replace(found, **changes), GRID, cubes)
        return misfit(moved, GRID, cubes) + float(usual @ (moved.centres / bounds.centre_prior) ** 2)

    def vertex(of_shift, step):
        low, middle, high = (of_shift(part * step) for part in (-1.0, 0.0, 1.0))
        return 0.5 * step * (low - high) / (low - 2.0 * middle + high)

    assert abs(vertex(lambda x: objective(thickness=found.thickness + x), 0.3)) < 0.02
    assert abs(vertex(lambda x: objective(sigma=found.sigma + x), np.radians(2e-4))) < np.radians(1e-4)
    for frame in np.eye(4):
        shift = vertex(lambda x, frame=frame: objective(centres=found.centres + x * frame), np.radians(2e-4))
        assert abs(shift) < np.radians(1e-4)
