"""Thickness laws as weights on a grid."""

import numpy as np
import plain_reference
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edtbx.intensities import thickness as module
from edtbx.intensities.thickness import histogram_weights, mean_thickness, thickness_slopes, thickness_weights

GRID = 50.0 * np.arange(1, 41)
MEANS = {"slab": 1.0, "wedge": 1 / 2, "cylinder": np.pi / 4, "lens": 2 / 3, "thin": 1 / 3}
LAWS = sorted(MEANS)


def test_every_law_is_tested():
    assert set(module.LAWS) == set(LAWS)


@pytest.mark.parametrize("shape", LAWS)
def test_mean_thickness(shape):
    weights = thickness_weights(GRID, shape, 1430.0)
    assert weights @ GRID == pytest.approx(MEANS[shape] * 1430.0, rel=1e-12)  # linear interpolation keeps it


@pytest.mark.parametrize("shape", LAWS)
def test_mean_thickness_in_words(shape):
    assert mean_thickness(shape, 800.0) == pytest.approx(MEANS[shape] * 800.0, rel=1e-12)
    assert mean_thickness("free", 800.0) == 800.0


def test_a_histogram_on_the_points_of_the_grid_is_itself():
    histogram = np.random.default_rng(0).dirichlet(np.ones(len(GRID)))
    np.testing.assert_allclose(histogram_weights(GRID, GRID, histogram), histogram, atol=1e-14)


def test_a_histogram_on_another_grid_keeps_sum_and_mean():
    rng = np.random.default_rng(1)
    thickness, histogram = rng.uniform(60.0, 1900.0, 30), rng.dirichlet(np.ones(30))
    weights = histogram_weights(GRID, thickness, histogram)
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    assert weights @ GRID == pytest.approx(histogram @ thickness, rel=1e-12)


@pytest.mark.parametrize("shape", LAWS)
def test_weights_against_sampled_thicknesses(shape):
    if shape == "slab":  # no samples to take
        return
    for thickness in (60.0, 733.0, 1990.0):
        samples = plain_reference.sampled_thicknesses(shape, thickness)
        for values in (np.cos(GRID / 300.0), GRID**2 / 1e6, np.exp(-GRID / 500.0)):
            expected = np.interp(samples, np.concatenate([[0.0], GRID]), np.concatenate([[0.0], values])).mean()
            assert thickness_weights(GRID, shape, thickness) @ values == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", LAWS)
def test_weights_are_not_negative_and_sum_to_one_but_for_what_is_thinner_than_the_first_step(shape):
    weights = thickness_weights(GRID, shape, 1430.0)
    assert weights.min() >= (-0.1 if shape == "slab" else 0.0)  # a cubic interpolation swings
    samples = plain_reference.sampled_thicknesses(shape, 1430.0)
    lost = np.clip(1.0 - samples / GRID[0], 0.0, None).mean()
    assert weights.sum() == pytest.approx(1.0 - lost, abs=1e-4)
    assert np.abs(weights[GRID > 1500.0]).max() == 0.0


@given(st.floats(0.0, 2000.0))
def test_a_slab_interpolates_between_its_neighbours(thickness):
    """Parabolas exactly where there are two points on either side, straight lines everywhere."""
    weights = thickness_weights(GRID, "slab", thickness)
    assert np.sum(np.abs(weights) > 1e-9) <= 4
    assert weights @ GRID == pytest.approx(thickness, abs=1e-9)
    if thickness >= 100.0:
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    if 50.0 <= thickness <= 1950.0:
        assert weights @ (GRID**2 - 700.0 * GRID) == pytest.approx(thickness**2 - 700.0 * thickness, abs=1e-5)


@pytest.mark.parametrize("place", [0, 7, 39])
def test_a_slab_on_a_point_of_the_grid_is_that_point(place):
    np.testing.assert_allclose(thickness_weights(GRID, "slab", GRID[place]), np.eye(40)[place], atol=1e-12)
    assert thickness_weights(GRID[:1], "slab", GRID[0]).tolist() == [1.0]


def test_a_slab_thinner_than_the_first_step_fades_to_nothing():
    assert thickness_weights(GRID, "slab", 20.0) @ np.ones(len(GRID)) == pytest.approx(
        0.448
    )  # (5 x − 3 x² + …)/2 by hand
    assert thickness_weights(GRID, "slab", 0.0).tolist() == [0.0] * 40


def test_beyond_the_grid_the_last_thickness_stands_in():
    weights = thickness_weights(GRID, "slab", 5000.0)
    assert weights.tolist() == [0.0] * 39 + [pytest.approx(1.0)]


@pytest.mark.parametrize("shape", LAWS)
def test_derivatives_have_no_kinks(shape):
    """Between the points of the grid, a step of 1e-3 Å changes weights as their derivatives at its ends say."""
    for thickness in np.arange(203.0, 1900.0, 17.3):
        change = thickness_weights(GRID, shape, thickness + 1e-3) - thickness_weights(GRID, shape, thickness)
        slopes = [thickness_slopes(GRID, shape, t) for t in (thickness, thickness + 1e-3)]
        np.testing.assert_allclose(slopes[0], slopes[1], atol=3e-6)
        np.testing.assert_allclose(change, 1e-3 * slopes[0], atol=1e-9)


@pytest.mark.parametrize("shape", LAWS)
def test_shares_and_their_integrals_are_those_of_the_density(shape):
    """Densities as the head of the module gives them, integrated numerically."""
    if shape == "slab":
        return
    density = {
        "wedge": np.ones_like,
        "cylinder": lambda u: u / np.sqrt(1 - u * u),
        "lens": lambda u: 2 * u,
        "thin": lambda u: 2 * (1 - u),
    }[shape]
    law = module._SPREAD[shape]
    for end in (0.1, 0.5, 0.9):
        middle = end * (np.arange(100_000) + 0.5) / 100_000
        assert density(middle).mean() * end == pytest.approx(law.share(np.array(end)), rel=1e-6)
        assert np.mean((end - middle) * density(middle)) * end == pytest.approx(law.integral(np.array(end)), rel=1e-6)
