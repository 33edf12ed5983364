"""What the data tell of how frames vary: the evidence, its parts, and crystals whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from edtbx.crystal.evidence import JointPrior, Quadratic
from edtbx.crystal.frame_parameters import NO_TRENDS, FrameParameters, Trends, prior_of_frames
from edtbx.crystal.learning import learn_frames
from edtbx.crystal.noise import Noise
from edtbx.crystal.scan_prior import Amplitudes, ScanPrior
from edtbx.crystal.scan_rows import ScanRows
from edtbx.crystal.trends import choose_trends
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance, intensity_weights

GRID = Grid(y=np.radians(np.linspace(-0.4, 0.4, 17)), thickness=np.linspace(50.0, 1500.0, 30))
BOUNDS = NuisanceBounds(shapes=("wedge",))
DEGREE = np.radians(1.0)


def process(angles, **start):
    first = Amplitudes(**{"constant": 0.3, "trend": 0.2, "smooth": 0.4, "length": 0.2, "jump": 0.1, **start})
    least, greatest = (Amplitudes.of(first.logarithms + step) for step in (-3.0, 3.0))
    return ScanPrior(angles=angles, start=first, least=least, greatest=greatest)


def small_case(seed=0, frames=4):
    rng = np.random.default_rng(seed)
    angles = np.linspace(0.0, 0.5, frames)
    prior = JointPrior(processes=[process(angles), process(angles, smooth=0.1)], singles=np.array([0.5, 0.2]))
    design = rng.standard_normal((3 * frames, 2 * frames + 2))
    return prior, Quadratic(information=design.T @ design, pull=design.T @ rng.standard_normal(3 * frames))


def test_slopes_of_the_evidence_are_exact():
    prior, likelihood = small_case()
    logarithms = prior.first + 0.3 * np.random.default_rng(1).standard_normal(10)
    _, slopes = prior.deviance(logarithms, likelihood)
    step = 1e-5
    for n, slope in enumerate(slopes):
        ends = [prior.deviance(logarithms + sign * step * np.eye(10)[n], likelihood)[0] for sign in (1.0, -1.0)]
        assert slope == pytest.approx((ends[0] - ends[1]) / (2.0 * step), rel=1e-5, abs=1e-8)


def test_the_evidence_is_the_mean_likelihood_of_draws_from_the_prior():
    prior, likelihood = small_case(frames=2)
    likelihood = Quadratic(information=0.3 * likelihood.information, pull=0.5 * likelihood.pull)
    rng, logarithms = np.random.default_rng(2), prior.first
    draws = rng.multivariate_normal(np.zeros(6), prior.covariance(logarithms), 400_000)
    squares = np.einsum("ni,ij,nj->n", draws, likelihood.information, draws)
    sampled = np.mean(np.exp(draws @ likelihood.pull - 0.5 * squares))
    assert -prior.deviance(logarithms, likelihood)[0] == pytest.approx(np.log(sampled), abs=0.01)
    weights = np.exp(draws @ likelihood.pull - 0.5 * squares) / (sampled * len(draws))
    means, covariance = prior.posterior(logarithms, likelihood)
    np.testing.assert_allclose(weights @ draws, means, atol=0.01)
    np.testing.assert_allclose(weights @ (draws - means) ** 2, np.diag(covariance), rtol=0.05)


def test_noise_comes_back_from_residuals_that_it_made():
    rng, rows = np.random.default_rng(3), 20_000
    calculated = rng.exponential(300.0, rows)
    sigma = rng.uniform(5.0, 30.0, rows)
    truth = Noise(of_sigma=0.8, of_intensity=0.1, of_amplitude=0.15, freedom=5.0, typical=200.0)
    residuals = rng.standard_t(truth.freedom, rows) * np.sqrt(truth.squared_scales(sigma, calculated))
    start = replace(truth, of_sigma=2.0, of_intensity=0.02, of_amplitude=0.05, freedom=20.0)
    found = start.fitted(residuals**2, sigma, calculated, np.ones(rows))
    for name in ("of_sigma", "of_intensity", "of_amplitude", "freedom"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=0.15)
    # the variances of a mixture of normal distributions bring every residual to the same spread
    scaled = residuals / np.sqrt(truth.variances(residuals**2, sigma, calculated))
    assert np.abs(scaled).max() < np.sqrt(truth.freedom + 1.0)
    repeated = start.fitted(
        np.tile(residuals**2, 2), *(np.tile(v, 2) for v in (sigma, calculated)), np.full(2 * rows, 2.0)
    )
    assert repeated.of_intensity == pytest.approx(found.of_intensity, rel=1e-3)


def made_up(truth, rows, seed, relative=0.05):
    """Cubes of rocking curves; measured intensities obey the truth but for noise, of σ and of so much of the intensity."""
    rng = np.random.default_rng(seed)
    cubes, sigmas = [], []
    for frame in range(len(truth.scales)):
        place, width = rng.uniform(-0.3, 0.3, (rows, 1)), rng.uniform(0.05, 0.2, (rows, 1))
        over_y = 1.0 / (1.0 + ((np.degrees(GRID.y) - place) / width) ** 2)
        over_t = 1.0 + np.sin(GRID.thickness * rng.uniform(0.002, 0.02, (rows, 1)) + rng.uniform(0.0, 6.0, (rows, 1)))
        strength = 100.0 * rng.exponential(1.0, rows)
        intensities = np.einsum("m,my,mt->ymt", strength, over_y, over_t)
        cubes.append(FrameCube(frame_id=frame, intensities=intensities, observed=np.zeros(rows), weights=np.ones(rows)))
    made = []
    for cube, exact in zip(cubes, truth.intensities(GRID, cubes), strict=True):
        sigma = np.full(rows, 3.0)
        observed = exact + np.hypot(sigma, relative * exact) * rng.standard_normal(rows)
        made.append(replace(cube, observed=observed, weights=intensity_weights(observed, sigma)))
        sigmas.append(sigma)
    return made, np.concatenate(sigmas)


def crystal(frames, seed, *, smooth=0.12, length=8.0, jump=0.06, centre_jump=0.04):
    """Frames a degree apart, and nuisance parameters that vary by these amounts."""
    rng, angles = np.random.default_rng(seed), DEGREE * np.arange(frames)
    away = np.degrees(np.abs(angles[:, None] - angles))
    curve = rng.multivariate_normal(
        np.zeros(frames), smooth**2 * np.exp(-0.5 * (away / length) ** 2) + 1e-12 * np.eye(frames)
    )
    scales = 2.0 * np.exp(curve + jump * rng.standard_normal(frames))
    centres = np.clip(centre_jump * DEGREE * rng.standard_normal(frames), -0.18 * DEGREE, 0.18 * DEGREE)
    return angles, Nuisance(shape="wedge", thickness=900.0, sigma=np.radians(0.06), centres=centres, scales=scales)


def scan_of(angles, cubes, sigma):
    """Rows of their own, one after the other."""
    edges = np.cumsum([len(cube.observed) for cube in cubes])[:-1]
    sigmas, shares, numbers = (np.split(one, edges) for one in (sigma, np.ones(len(sigma)), np.arange(len(sigma))))
    return ScanRows(angles=angles, sigma=sigmas, shares=shares, numbers=numbers)


def beginning(truth):
    """What is known before: thickness and spread."""
    number = len(truth.scales)
    return replace(
        truth,
        centres=np.zeros(number),
        scales=np.full(number, np.mean(truth.scales)),
        thickness_factors=None,
        sigma_factors=None,
    )


def learnt(truth, angles, cubes, sigma, bounds=BOUNDS, trends=NO_TRENDS):
    return learn_frames(cubes, GRID, bounds, beginning(truth), scan_of(angles, cubes, sigma), trends)


def test_crystals_come_back_within_their_uncertainties():
    """Drawn from such a prior: s.u.s are those of the errors, amplitudes right within a factor of two."""
    by_scale, by_centre, found = [], [], []
    for seed in range(6):
        angles, truth = crystal(60, seed)
        cubes, sigma = made_up(truth, 16, seed)
        fit = learnt(truth, angles, cubes, sigma)
        by_scale.append((np.log(fit.nuisance.scales) - np.log(truth.scales)) / (fit.su.scales / fit.nuisance.scales))
        by_centre.append((fit.nuisance.centres - truth.centres) / fit.su.centres)
        found.append(fit)
    assert np.std(by_scale) == pytest.approx(1.0, abs=0.15)
    assert np.std(by_centre) == pytest.approx(1.0, abs=0.15)
    for values, truth in (
        ([fit.scales.smooth for fit in found], 0.12),
        ([fit.scales.jump for fit in found], 0.06),
        ([np.degrees(fit.scales.length) for fit in found], 8.0),
        ([np.degrees(fit.centres.jump) for fit in found], 0.04),
        ([fit.noise.of_intensity for fit in found], 0.05),
    ):
        assert truth / 2.0 < np.median(values) < 2.0 * truth


def test_a_crystal_without_variation_is_given_none():
    effective = []
    for seed in range(7, 13):
        angles, truth = crystal(60, seed, smooth=0.0, jump=0.0, centre_jump=0.0)
        cubes, sigma = made_up(truth, 16, seed)
        fit = learnt(truth, angles, cubes, sigma)
        exact = truth.intensities(GRID, cubes)
        free = [np.log(cube.observed.sum() / i.sum()) for cube, i in zip(cubes, exact, strict=True)]
        assert np.std(np.log(fit.nuisance.scales)) < 0.5 * np.std(free)
        assert np.std(np.log(fit.nuisance.scales)) < 0.01
        assert np.degrees(np.std(fit.nuisance.centres)) < 0.002
        effective.append(fit.effective)
    assert np.median(effective) < 25.0  # of 122 parameters, two of them shared


def test_a_frame_that_says_nothing_is_as_its_neighbours_are():
    angles, truth = crystal(40, 8, smooth=0.3, length=10.0, jump=0.0, centre_jump=0.0)
    cubes, sigma = made_up(truth, 16, 8)
    blind = replace(cubes[20], weights=1e-12 * cubes[20].weights)
    fit = learnt(truth, angles, [*cubes[:20], blind, *cubes[21:]], sigma)
    scales = fit.nuisance.scales
    assert scales[20] == pytest.approx(np.sqrt(scales[19] * scales[21]), rel=0.02)
    assert scales[20] == pytest.approx(truth.scales[20], rel=0.05)


def test_centres_stay_where_they_are_held():
    angles, truth = crystal(20, 9, centre_jump=0.0)
    cubes, sigma = made_up(truth, 16, 9)
    fit = learnt(truth, angles, cubes, sigma, replace(BOUNDS, refine_centres=False, sigma=truth.sigma, thickness=900.0))
    assert fit.centres is None
    assert not fit.su.centres.any()
    assert (fit.su.sigma, fit.su.thickness) == (0.0, 0.0)
    assert not fit.nuisance.centres.any()
    assert (fit.nuisance.sigma, fit.nuisance.thickness) == (truth.sigma, 900.0)
    assert fit.effective < 21.0


def test_uncertainties_are_those_of_draws_from_the_posterior():
    """Laplace's approximation beside importance sampling of the posterior itself, at the same amplitudes."""
    angles, truth = crystal(3, 10)
    cubes, _ = made_up(truth, 12, 10, relative=0.1)
    frames = FrameParameters.of(
        cubes, GRID, replace(BOUNDS, sigma=truth.sigma, thickness=900.0), truth, prior_of_frames(angles, True)
    )
    observed = np.concatenate([cube.observed for cube in cubes])
    weights = 1.0 / (9.0 + (0.1 * np.concatenate(truth.intensities(GRID, cubes))) ** 2)
    logarithms = frames.prior.first
    x = frames.fitted(frames.first, observed, weights, logarithms, 20)
    likelihood = frames.quadratic(x, frames.slopes(x), observed - frames.calculated(x), weights)
    means, covariance = frames.prior.posterior(logarithms, likelihood)
    np.testing.assert_allclose(means, x, atol=1e-4)
    rng, precision = np.random.default_rng(11), np.linalg.inv(frames.prior.covariance(logarithms))
    own = covariance[:6, :6]
    draws = np.hstack([rng.multivariate_normal(x[:6], 1.5 * own, 6000), np.zeros((6000, 4))])
    away = draws[:, :6] - x[:6]
    proposed = -0.5 * np.einsum("ni,ij,nj->n", away, np.linalg.inv(1.5 * own), away)
    misfits = np.array([weights @ (observed - frames.calculated(one)) ** 2 for one in draws])
    posterior = -0.5 * misfits - 0.5 * np.einsum("ni,ij,nj->n", draws, precision, draws)
    shares = np.exp(posterior - proposed - np.max(posterior - proposed))
    shares /= shares.sum()
    assert 1.0 / np.sum(shares**2) > 1500.0
    drawn = np.sqrt(shares @ (draws - shares @ draws)[:, :6] ** 2)
    np.testing.assert_allclose(drawn, np.sqrt(np.diag(own)), rtol=0.1)
    assert np.all(np.abs(shares @ draws - x)[:6] < 0.2 * drawn)


def test_derivatives_by_all_parameters_are_exact():
    angles, truth = crystal(3, 12)
    cubes, _ = made_up(truth, 6, 12)
    frames = FrameParameters.of(cubes, GRID, BOUNDS, truth, prior_of_frames(angles, True), Trends(True, True))
    x = frames.first + 0.01 * np.random.default_rng(13).standard_normal(10) * [1, 1, 1, 0.1, 0.1, 0.1, 1, 1, 1, 1]
    slopes = frames.slopes(x)
    step = 1e-6
    for column, places in enumerate(([0, 1, 2], [3, 4, 5], [6], [7], [8], [9])):
        for n, place in enumerate(places):
            ends = [frames.calculated(x + sign * step * np.eye(10)[place]) for sign in (1.0, -1.0)]
            rows = slice(None) if len(places) == 1 else frames.frame == n
            np.testing.assert_allclose(
                slopes[rows, column], ((ends[0] - ends[1]) / (2.0 * step))[rows], rtol=1e-4, atol=1e-4
            )
    np.testing.assert_allclose(replace(frames, start=frames.nuisance(x)).first[-4:-2], x[-4:-2], atol=1e-12)


# ---- trends ---------------------------------------------------------------------------------------------------------


def with_trends(truth, angles, thickness, spread):
    """The crystal with ln thickness and ln spread that grow by so much a standard deviation of the angles."""
    line = (angles - angles.mean()) / np.std(angles)
    return replace(truth, thickness_factors=np.exp(thickness * line), sigma_factors=np.exp(spread * line))


def test_trends_come_back_within_their_uncertainties():
    errors = []
    for seed in range(20, 26):
        angles, truth = crystal(40, seed)
        truth = with_trends(truth, angles, 0.2, -0.4)
        cubes, sigma = made_up(truth, 16, seed)
        fit = learnt(truth, angles, cubes, sigma, trends=Trends(True, True))
        for found, exact, su in (
            (fit.nuisance.thicknesses, truth.thicknesses, fit.su.thicknesses),
            (fit.nuisance.sigmas, truth.sigmas, fit.su.sigmas),
        ):
            errors += [((found - exact) / su)[[0, -1]]]
    assert 0.6 < np.std(errors) < 1.5
    assert np.abs(errors).max() < 4.0


def test_what_was_left_out_says_which_trends_there_are():
    for seed, thickness, spread in ((30, 0.25, 0.0), (31, 0.0, 0.0), (32, 0.25, 0.7)):
        angles, truth = crystal(40, seed)
        cubes, sigma = made_up(with_trends(truth, angles, thickness, spread), 16, seed)
        scan = scan_of(angles, cubes, sigma)
        found = choose_trends(cubes, GRID, BOUNDS, beginning(truth), scan)
        assert found == Trends(thickness > 0.0, spread > 0.0)
    held = replace(BOUNDS, thickness=900.0, sigma=truth.sigma)
    assert choose_trends(cubes, GRID, held, beginning(truth), scan) == NO_TRENDS
