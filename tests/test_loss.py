"""Losses for outliers and weights: what they do to normal residuals, and to others."""

import numpy as np
import pytest
from smtbx.refinement.least_squares import mainstream_shelx_weighting

from edtbx.fitting.loss import LOSSES, loss_factors, usual_sizes, variance_factor
from edtbx_cctbx.targets.weighting import flat_weighting, weights_of


@pytest.mark.parametrize("name", LOSSES)
def test_the_variance_of_an_estimate_is_what_is_said(name):
    """The mean of 60 normal numbers under each loss, 4000 times: its variance, and the one that its own residuals tell."""
    numbers = np.random.default_rng(3).normal(size=(4000, 60))
    mean = numbers.mean(axis=1, keepdims=True)
    for _ in range(30):
        factors = loss_factors(name, numbers - mean)
        mean = np.sum(factors * numbers, axis=1, keepdims=True) / factors.sum(axis=1, keepdims=True)
    told = np.sum(factors * (numbers - mean) ** 2, axis=1) / 59 / factors.sum(axis=1) * variance_factor(name)
    assert mean.var() == pytest.approx(told.mean(), rel=0.06)


def test_squares_change_nothing():
    assert variance_factor("squares") == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_array_equal(loss_factors("squares", np.array([-9.0, 0.0, 3.0])), 1.0)


@pytest.mark.parametrize("name", ["huber", "cauchy"])
def test_outliers_count_for_less_the_further_off(name):
    factors = loss_factors(name, np.array([0.5, 3.0, 10.0, 30.0]))
    assert factors[0] > 0.9
    assert np.all(np.diff(factors) < 0.0)
    influence = factors * np.array([0.5, 3.0, 10.0, 30.0])
    assert influence[3] <= influence[1] * 1.5


def test_outliers_are_told_by_their_peers():
    """Residuals grow with intensity, and a tenth of them is ten times too large: only these stand out."""
    rng = np.random.default_rng(0)
    calculated = rng.gamma(0.5, 1000.0, 3000)
    size = 1.0 + calculated / 200.0
    residuals = size * rng.normal(size=3000)
    spoilt = rng.random(3000) < 0.1
    residuals[spoilt] += 12.0 * size[spoilt] * rng.choice([-1.0, 1.0], spoilt.sum())
    found = np.abs(residuals / usual_sizes(residuals, calculated)) > 5.0
    assert np.mean(found[spoilt]) > 0.95
    assert np.mean(found[~spoilt]) < 0.01


@pytest.mark.parametrize("a", [0.01, 0.05])
def test_flat_weights_find_the_error_that_grows_with_intensity(a):
    rng = np.random.default_rng(2)
    true = rng.gamma(0.6, 2000.0, 6000)
    sigma = np.full(6000, 10.0)
    observed = true + sigma * rng.normal(size=6000) + a * true * rng.normal(size=6000)
    scheme = flat_weighting(observed, sigma, true)
    assert scheme.a == pytest.approx(a, rel=0.15)
    assert scheme.b == 0.0
    weights = weights_of(mainstream_shelx_weighting(a=a, b=0), observed, sigma, true)
    assert np.mean(weights * (observed - true) ** 2) == pytest.approx(1.0, abs=0.1)
