"""R factors: against plain loops, by hand, and those that a published refinement printed."""

import math
import re

import numpy as np
import plain_reference
import pytest

from edtbx.measurement.statistics import DEFINITION, amplitude_weights, r_factor, statistics


def fake(seed, m=400):
    rng = np.random.default_rng(seed)
    true = rng.gamma(0.5, 200.0, m)
    sigma = rng.uniform(1.0, 12.0, m)
    observed = true + sigma * rng.normal(size=m)
    assert np.sum(observed < 0) > 10
    calculated = true * rng.uniform(0.7, 1.3, m)
    return observed, sigma, calculated, rng.integers(0, 6, m), rng.integers(0, m // 3, m)


@pytest.mark.parametrize("seed", range(4))
def test_against_loops(seed):
    observed, sigma, calculated, frames, unique = fake(seed)
    found = statistics(observed, sigma, calculated, frames, unique)
    expected = plain_reference.r_factors(observed, sigma, calculated)
    np.testing.assert_allclose((found.r_obs, found.wr_obs, found.r_all, found.wr_all), expected, rtol=1e-12)
    assert found.mr_obs == pytest.approx(
        plain_reference.merged_r(observed, sigma, calculated, unique.tolist()), rel=1e-12
    )
    of_frames = [
        plain_reference.r_factors(observed[frames == n], sigma[frames == n], calculated[frames == n])[0]
        for n in range(6)
    ]
    assert found.r_frames == pytest.approx(np.mean(of_frames), rel=1e-12)
    assert (found.n_obs, found.n_all) == (np.sum(observed > 3 * sigma), len(observed))


def test_by_hand():
    # two observed reflections, Fo = 10 and 20; one that is not, with I < 0
    found = statistics(
        np.array([100.0, 400.0, -9.0]),
        np.array([2.0, 4.0, 4.0]),
        np.array([81.0, 484.0, 1.0]),
        np.array([1, 1, 1]),
        np.array([0, 1, 2]),
    )
    assert found.r_obs == pytest.approx((1 + 2) / 30)
    assert found.r_all == pytest.approx((1 + 2 + 1) / 30)
    w = 1 / (np.array([2 / 20, 4 / 40, 5 * math.sqrt(4.0)]) ** 2 + (0.01 * np.array([10, 20, 0])) ** 2)
    assert found.wr_all == pytest.approx(math.sqrt((w @ np.array([1, 4, 1])) / (w @ np.array([100, 400, 0]))))


def test_weak_intensities_have_the_sigma_of_the_definition():
    sigma = np.full(4, 9.0)
    observed = np.array([-50.0, 0.0, 0.0899, 0.0901])
    expected = [1 / 225, 1 / 225, None, 1 / ((9 / (2 * math.sqrt(0.0901))) ** 2 + 1e-4 * 0.0901)]
    expected[2] = 1 / (225 + 1e-4 * 0.0899)
    np.testing.assert_allclose(amplitude_weights(observed, sigma), expected, rtol=1e-12)


def test_perfect_agreement_is_zero():
    observed, sigma, _, frames, unique = fake(0)
    positive = np.maximum(observed, 0.0)
    found = statistics(positive, sigma, positive, frames, unique)
    assert found.r_obs == found.wr_obs == found.r_all == found.wr_all == found.mr_obs == found.r_frames == 0.0


def test_nothing_observed_is_not_a_number():
    m = np.ones(3)
    found = statistics(m, m, m, m.astype(int), m.astype(int))
    assert math.isnan(found.r_obs)
    assert math.isnan(found.wr_obs)
    assert math.isnan(found.r_frames)
    assert found.r_all == 0.0
    assert math.isnan(r_factor(np.zeros(2), m[:2]))


def test_the_definition_says_what_is_done():
    """The numbers in its words are those of the weights and of the rows counted as observed."""
    cut, factor, weak, instability = (
        float(re.search(pattern, DEFINITION).group(1))
        for pattern in (r"I > (\S+) sigma", r"or (\S+) sqrt", r"I < (\S+) sigma", r"\((\S+) Fo\)\^2")
    )
    sigma = np.full(4, 2.0)
    intensity = np.array([0.99 * weak, 1.01 * weak, 0.99 * cut, 1.01 * cut]) * sigma
    f_obs = np.sqrt(intensity)
    sigma_f = np.where(intensity < weak * sigma, factor * np.sqrt(sigma), sigma / (2.0 * f_obs))
    weights = 1.0 / (sigma_f**2 + (instability * f_obs) ** 2)
    np.testing.assert_allclose(amplitude_weights(intensity, sigma), weights, rtol=1e-12)
    ids = np.zeros(4, dtype=int)
    assert statistics(intensity, sigma, intensity, ids, np.arange(4)).n_obs == 1


def jana_rows(data_dir):
    """Columns h k l I_calc I_meas sigma scale_group (M, 7) of the published refinement of urea."""
    lines = (data_dir / "urea" / "urea_jana.cif").read_text(encoding="latin-1").splitlines()
    start = max(n for n, line in enumerate(lines) if line.strip() == "_refln_observed_status") + 1
    rows = []
    for line in lines[start:]:
        words = line.split()
        if len(words) != 8:
            break
        rows.append([float(word) for word in words[:7]])
    return np.array(rows)


@pytest.mark.real_data
def test_numbers_of_the_published_refinement_of_urea(data_dir):
    rows = jana_rows(data_dir)
    assert len(rows) == 2663
    group = rows[:, 6].astype(int)
    found = statistics(rows[:, 4], rows[:, 5], rows[:, 3], group, np.arange(len(rows)))
    printed = (0.0815, 0.0906, 0.1217, 0.0942)
    # the file gives intensities to two decimals
    np.testing.assert_allclose((found.r_obs, found.wr_obs, found.r_all, found.wr_all), printed, atol=1e-3)
    assert found.n_obs == 1368
