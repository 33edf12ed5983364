"""Invariants of the solvers, their derivatives, and the registry through which they come."""

import gc
import types
import warnings
import weakref
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import plain_reference
import pluggy
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import jv

from edtbx.intensities.potential import GVectors, indices_within, surface_term
from edtbx.measurement.geometry import excitation_error, orthogonalisation_matrix, rotate
from edtbx.solvers import builtin, chebyshev, hookspecs, propagator, registry
from edtbx.solvers.auto import AutoSolver
from edtbx.solvers.block import Accuracy, Block
from edtbx.solvers.chebyshev import bessel, series_length
from edtbx.solvers.eigen import EigenSolver
from edtbx.solvers.folding import cheapest_groups
from edtbx.solvers.kinematical import KinematicalSolver
from edtbx.solvers.propagator import PropagatorSolver
from edtbx.solvers.registry import SolverRegistry, installed_solvers
from edtbx.solvers.two_beam import TwoBeamSolver

CELL = (5.1, 6.2, 7.3, 88.0, 97.0, 104.0)
G_MAX = 1.6
EIGEN = EigenSolver()
PROPAGATOR = PropagatorSolver()
EVERYTHING = Accuracy(s_max=10.0)
ALL = (EIGEN, PROPAGATOR, TwoBeamSolver(), KinematicalSolver())
MANY_BEAM = (EIGEN, PROPAGATOR)


def block_of(seed=0, beams=24, tilts=3, wavenumber=40.0, strength=0.03, centric=False):
    """Random potential of a triclinic crystal in a random orientation; beams of several Laue zones, all in the wave."""
    rng = np.random.default_rng(seed)
    vectors = GVectors.from_indices(indices_within(CELL, 2 * G_MAX), G_MAX)
    g_all = vectors.hkl @ (Rotation.random(rng=rng).as_matrix() @ orthogonalisation_matrix(CELL)).T
    length = np.linalg.norm(g_all, axis=1)
    s_centre = np.where(length <= G_MAX, np.abs(excitation_error(g_all, wavenumber)), np.inf)
    chosen = np.argsort(np.where(length == 0.0, -1.0, s_centre))[:beams]
    g = g_all[chosen]
    u_all = strength * np.exp(-length) * (rng.normal(size=len(length)) + 1j * rng.normal(size=len(length)))
    u_all = 0.5 * (u_all + u_all[vectors.find(-vectors.hkl)].conj())
    if centric:
        u_all = u_all.real
    x = np.linspace(-0.01, 0.012, tilts)
    s_g = excitation_error(rotate(g, x, 0.3 * x), wavenumber)
    return Block(
        u=vectors.coupling(vectors.hkl[chosen], u_all),
        s_g=s_g,
        surface=surface_term(s_g, np.sum(g * g, axis=1), wavenumber),
        weights=rng.uniform(0.2, 1.0, (2, tilts)),
        wanted=np.arange(beams),
        thickness=np.array([100.0, 450.0, 1000.0]),
        wavenumber=wavenumber,
        accuracy=EVERYTHING,
    )


def inclined(seed=0, **kwargs):
    """The same for slow electrons: large Ewald curvature, so that M differs from 1 by per cents."""
    return block_of(seed=seed, wavenumber=9.0, **kwargs)


def degenerate(kind, seed=0):
    """Blocks with exactly equal eigenvalues."""
    block = block_of(seed=seed, beams=8, tilts=2)
    u, s_g = block.u.copy(), block.s_g.copy()
    if kind == "no potential, equal S":
        u[:] = 0.0
        s_g[:, 1:] = 0.004
    elif kind == "multiple of the identity on a subspace":  # beams 4.. couple to nothing and share one S
        u[4:, :] = u[:, 4:] = 0.0
        s_g[:, 4:] = 0.003
    elif kind == "many beams alike":  # one bright state, the others all alike
        u[:] = 0.0
        u[1:, 0], u[0, 1:] = 0.02 + 0.01j, 0.02 - 0.01j
        s_g[:] = 0.0
    elif kind == "everything zero":
        u[:] = 0.0
        s_g[:] = 0.0
    return replace(block, u=u, s_g=s_g, surface=np.ones_like(s_g))


DEGENERATE = ("no potential, equal S", "multiple of the identity on a subspace", "many beams alike", "everything zero")


def random_seed(block, seed=1):
    return np.random.default_rng(seed).normal(size=(len(block.weights), len(block.wanted), len(block.thickness)))


def hermitian_direction(n, seed=2):
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    d = d + d.conj().T
    np.fill_diagonal(d, 0.0)
    return d


def slopes(solver, block, step=2e-5, seed=2):
    """∂T/∂(direction) twice: from the adjoint and from finite differences of the solver itself."""
    weights, direction = random_seed(block), hermitian_direction(len(block.u), seed)
    if not np.iscomplexobj(block.u):
        direction = direction.real
    exact = np.sum((solver.adjoint(block, weights).u.conj() * direction).real)

    def target(x):
        return np.sum(weights * solver.intensities(replace(block, u=block.u + x * direction)))

    return exact, plain_reference.derivative(target, step)


# ---- waves ----------------------------------------------------------------------------------------------------------


def test_the_blocks_are_hard_enough():
    """Several Laue zones, M ≠ 1, no centre of symmetry: or the tests below would test little."""
    for block, off in ((block_of(), 1e-4), (inclined(), 5e-3)):
        assert np.max(np.abs(block.surface - 1.0)) > off
        assert np.all(block.surface[:, 0] == 1.0)
        assert np.ptp(block.s_g) > 0.01
        assert np.max(np.abs(block.u.imag)) > 0.3 * np.max(np.abs(block.u.real))
        np.testing.assert_allclose(block.u, block.u.conj().T, atol=1e-15)


def test_at_zero_thickness_the_incident_beam_is_all_there_is():
    block = replace(block_of(), thickness=np.array([0.0, 1e-3]))
    found = EIGEN.intensities(block)
    expected = np.zeros(found.shape[:2])
    expected[:, 0] = block.weights.sum(axis=1)
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-14)  # rounding of C C†
    np.testing.assert_allclose(found[..., 1], expected, atol=1e-9)  # (π t U/K)²


@pytest.mark.parametrize("make", [block_of, inclined])
def test_flux_is_conserved(make):
    block = make(beams=40)
    flux = EIGEN.intensities(block).sum(axis=1)
    # C is unitary to rounding
    np.testing.assert_allclose(flux, np.repeat(block.weights.sum(axis=1)[:, None], 3, axis=1), rtol=1e-12)


@pytest.mark.parametrize("make", [block_of, inclined])
def test_agrees_with_the_matrix_exponential_of_the_wave_equation(make):
    for seed in range(3):
        block = make(seed=seed)
        # expm squares about ten times: 1e-16 × 2^10 × phase
        np.testing.assert_allclose(EIGEN.intensities(block), plain_reference.intensities(block), atol=1e-11)


def test_the_surface_term_matters_in_these_blocks():
    block = inclined()
    flat = replace(block, surface=np.ones_like(block.surface))
    assert np.max(np.abs(EIGEN.intensities(flat) - EIGEN.intensities(block))) > 1e-3


def test_beams_beyond_s_max_are_left_out_at_their_tilts_only():
    block = block_of(tilts=4)
    limit = float(np.median(np.abs(block.s_g)))
    found = EIGEN.intensities(replace(block, accuracy=Accuracy(s_max=limit)))
    expected = np.zeros_like(found)
    for b in range(len(block.s_g)):
        keep = np.flatnonzero(np.abs(block.s_g[b]) <= limit)
        assert keep[0] == 0
        assert len(keep) < len(block.u)
        small = replace(
            block,
            u=block.u[np.ix_(keep, keep)],
            s_g=block.s_g[b : b + 1, keep],
            surface=block.surface[b : b + 1, keep],
            weights=block.weights[:, b : b + 1],
            wanted=np.arange(len(keep)),
        )
        expected[:, keep] += plain_reference.intensities(small)
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_the_incident_beam_is_never_left_out():
    block = block_of(tilts=1)
    s_g = block.s_g.copy()
    s_g[:, 0] = 0.5
    found = EIGEN.intensities(replace(block, s_g=s_g, accuracy=Accuracy(s_max=1e-9)))
    np.testing.assert_allclose(found[:, 0], np.repeat(block.weights, 3, axis=1), rtol=1e-12)


def test_wanted_beams_in_any_order_and_twice():
    block = block_of()
    everything = EIGEN.intensities(block)
    some = np.array([5, 2, 5, 0, 17])
    np.testing.assert_allclose(EIGEN.intensities(replace(block, wanted=some)), everything[:, some], rtol=1e-13)


@pytest.mark.parametrize("solver", ALL)
def test_a_batch_is_the_sum_of_its_orientations(solver):
    block = replace(block_of(tilts=5), wanted=np.arange(1, 24))
    seed = random_seed(block)
    parts = [
        replace(block, s_g=block.s_g[b : b + 1], surface=block.surface[b : b + 1], weights=block.weights[:, b : b + 1])
        for b in range(5)
    ]
    intensities = sum(solver.intensities(part) for part in parts)
    gradients = sum(solver.adjoint(part, seed).u for part in parts)
    # a series is cut where the rest is below a tenth of the tolerance
    cut = block.accuracy.tolerance if solver is PROPAGATOR else 0.0
    np.testing.assert_allclose(solver.intensities(block), intensities, rtol=1e-12, atol=1e-15 + 0.1 * cut)
    atol = (1e-12 + 0.1 * cut) * np.abs(gradients).max()
    np.testing.assert_allclose(solver.adjoint(block, seed).u, gradients, rtol=1e-10, atol=atol)


def test_the_inverted_structure_gives_the_transposed_scattering_matrix():
    """Row 0 of the exponential of one hand is column 0 of the other's."""
    block = block_of(tilts=1)
    inverse = EIGEN.intensities(replace(block, u=block.u.T.copy()))
    a = block.u * np.outer(block.surface[0], block.surface[0])
    np.fill_diagonal(a, 2 * block.wavenumber * block.s_g[0] * block.surface[0] ** 2)
    rows = [np.abs(plain_reference.scattering_matrix(a, t, block.wavenumber)[0]) ** 2 for t in block.thickness]
    np.testing.assert_allclose(inverse, block.weights[:, :, None] * np.transpose(rows), atol=1e-11)
    # and the two hands differ here, so that the test means something
    assert np.max(np.abs(inverse - EIGEN.intensities(block))) > 0.01


def test_both_hands_of_a_centric_crystal_are_one():
    block = block_of(centric=True)
    found = EIGEN.intensities(replace(block, u=block.u.T.copy()))
    np.testing.assert_allclose(found, EIGEN.intensities(block), atol=1e-12)


def test_a_shift_of_the_origin_changes_nothing():
    block = block_of()
    phase = np.exp(2j * np.pi * np.random.default_rng(3).uniform(size=len(block.u)))  # x·g of every beam
    shifted = block.u * phase[None, :] * phase[:, None].conj()
    found = EIGEN.intensities(replace(block, u=shifted))
    np.testing.assert_allclose(found, EIGEN.intensities(block), atol=1e-12)


# ---- the propagator against the reference ---------------------------------------------------------------------------


@pytest.mark.parametrize("centric", [False, True])
@pytest.mark.parametrize("make", [block_of, inclined])
def test_the_propagator_agrees_with_eigen(make, centric):
    block = make(beams=60, tilts=40, centric=centric)
    expected = EIGEN.intensities(block)
    np.testing.assert_allclose(PROPAGATOR.intensities(block), expected, atol=1e-9)
    single = replace(PROPAGATOR, precision="single").intensities(block)
    assert 1e-9 < np.abs(single - expected).max() < 1e-4 * expected.max()
    seed = random_seed(block)
    gradient = EIGEN.adjoint(block, seed).u
    np.testing.assert_allclose(PROPAGATOR.adjoint(block, seed).u, gradient, atol=1e-8 * np.abs(gradient).max())
    single = replace(PROPAGATOR, precision="single").adjoint(block, seed).u
    np.testing.assert_allclose(single, gradient, atol=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("centric", [False, True])
def test_the_adjoint_of_folded_beams_is_that_of_their_intensities(centric):
    block = block_of(beams=60, tilts=8, centric=centric)
    folded = replace(block, accuracy=Accuracy(s_max=10.0, s_strong=float(np.median(np.abs(block.s_g)))))
    assert np.abs(PROPAGATOR.intensities(folded) - PROPAGATOR.intensities(block)).max() > 1e-6
    exact, numerical = slopes(PROPAGATOR, folded)
    assert exact == pytest.approx(numerical, rel=1e-7)


@pytest.mark.parametrize("kept", [10**9, 0])
@pytest.mark.parametrize("solver", [AutoSolver(), PROPAGATOR, EIGEN])
def test_a_pullback_is_intensities_and_adjoint_together(solver, kept, monkeypatch):
    """Whether the terms of the series are kept or computed again, or the solver has no pullback of its own."""
    monkeypatch.setattr(propagator, "_KEPT_BYTES", kept)
    block = block_of(tilts=40)
    seed = random_seed(block)
    intensities, back = solver.pullback(block)
    np.testing.assert_allclose(intensities, solver.intensities(block), rtol=1e-12, atol=1e-15)
    for found, expected in zip((back(seed), back(2.0 * seed)), (1.0, 2.0), strict=True):
        np.testing.assert_allclose(found.u, expected * solver.adjoint(block, seed).u, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found.s_g, expected * solver.adjoint(block, seed).s_g, rtol=1e-10, atol=1e-12)


def test_auto_takes_eigen_where_it_is_faster():
    """For few beams, very thick crystals, and what a minimiser may ask for: an answer, not a series of 10^7 terms."""
    few = block_of(tilts=3)
    many = replace(block_of(beams=60, tilts=20), accuracy=Accuracy(s_max=0.1))
    folded = replace(block_of(beams=60, tilts=1), accuracy=Accuracy(s_max=0.1, s_strong=0.01))
    thick, exploded = replace(many, thickness=30.0 * many.thickness), replace(folded, u=1e6 * many.u)
    for block in (few, thick, exploded):
        np.testing.assert_array_equal(AutoSolver().intensities(block), EIGEN.intensities(block))
    for block in (many, folded):
        np.testing.assert_array_equal(AutoSolver().intensities(block), PROPAGATOR.intensities(block))
        assert np.abs(PROPAGATOR.intensities(block) - EIGEN.intensities(block)).max() > 0.0


def test_folding_beats_leaving_out():
    """Weak beams, folded, bring the strong ones nearer to what they are with all beams; second order is left."""
    block = replace(block_of(beams=100, tilts=8, strength=0.01), thickness=np.array([300.0, 600.0]))
    limit = float(np.quantile(np.abs(block.s_g).min(axis=0), 0.4))
    strong = np.flatnonzero(np.abs(block.s_g).min(axis=0) <= limit)
    block = replace(block, wanted=strong[1:])  # the incident beam loses what the weak ones take
    expected = EIGEN.intensities(block)
    folded = PROPAGATOR.intensities(replace(block, accuracy=Accuracy(s_max=10.0, s_strong=limit)))
    left_out = PROPAGATOR.intensities(replace(block, accuracy=Accuracy(s_max=limit)))
    assert np.abs(folded - expected).mean() < 0.5 * np.abs(left_out - expected).mean()


def test_waves_of_weak_beams_follow_the_strong_ones():
    """Tails of rocking curves, oscillations included: they begin at nothing, and err in the next order of U/S alone."""
    errors = []
    for strength in (0.01, 0.005):
        block = replace(block_of(beams=60, tilts=8, strength=strength), thickness=np.array([0.0, 150.0, 300.0, 600.0]))
        nearest = np.abs(block.s_g).min(axis=0)
        limit = float(np.quantile(nearest, 0.7))
        block = replace(block, wanted=np.flatnonzero(nearest > limit))
        expected = EIGEN.intensities(block)
        found = PROPAGATOR.intensities(replace(block, accuracy=Accuracy(s_max=10.0, s_strong=limit)))
        np.testing.assert_allclose(found[:, :, 0], 0.0, atol=1e-12)
        errors.append(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    assert errors[0] < 0.06
    assert errors[1] < 0.6 * errors[0]


def test_groups_hold_every_orientation_once_and_neighbours_only():
    block = block_of(tilts=64, beams=60)
    block = replace(block, accuracy=Accuracy(s_max=0.1, s_strong=0.002), thickness=np.array([3000.0]))
    groups = cheapest_groups(block, 4)
    assert sorted(np.concatenate([group.orientations for group in groups])) == list(range(64))
    assert len(groups) > 1
    whole = np.ptp(block.s_g, axis=0).max()
    assert max(np.ptp(block.s_g[group.orientations], axis=0).max() for group in groups) < 2.5 * whole / len(groups)
    for group in groups:
        nearest = np.abs(block.s_g[group.orientations]).min(axis=0)
        assert nearest[group.strong[1:]].max() <= 0.002 < nearest[group.weak].min()
    assert len(cheapest_groups(replace(block, thickness=np.array([1.0])), 4)) == 1  # nothing to gain


def test_a_block_is_gone_when_its_user_lets_it_go():
    """No cycle of references keeps it: blocks are large, and the collector comes late."""
    PROPAGATOR.intensities(block_of(tilts=40))  # compiles, which leaves references behind
    PROPAGATOR.pullback(block_of(tilts=40))
    gc.disable()
    try:
        block = block_of(tilts=40)
        excitation_errors = weakref.ref(block.s_g)
        PROPAGATOR.intensities(block)
        PROPAGATOR.pullback(block)
        del block
        assert excitation_errors() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("argument", [1e-3, 0.5, 7.0, 90.0, 400.0])
def test_bessel_functions_and_the_length_of_their_series(argument):
    """Against scipy; the rest of the series is below the tolerance and the series not much longer than need be."""
    length = series_length(argument, 1e-9)
    np.testing.assert_allclose(
        bessel(np.array([0.0, argument]), length)[:, 1], jv(np.arange(length), argument), atol=1e-13
    )
    rest = 2 * np.abs(jv(np.arange(length, length + 400), argument))
    assert rest.sum() <= 1e-9
    assert 2 * abs(jv(length - 12 - int(argument ** (1 / 3)), argument)) > 1e-9 or length < 14


# ---- limits with a closed form --------------------------------------------------------------------------------------


def test_two_beams_have_a_closed_form():
    u, k, thickness = 0.02 * np.exp(0.7j), 40.0, np.linspace(0.0, 1500.0, 31)
    s_g = np.array([[0.0, 0.0], [0.0, 0.0013], [0.0, -0.02]])
    block = Block(
        u=np.array([[0, u], [np.conj(u), 0]]),
        s_g=s_g,
        surface=np.ones_like(s_g),
        weights=np.array([[1.0, 0.5, 0.25]]),
        wanted=np.array([0, 1]),
        thickness=thickness,
        wavenumber=k,
        accuracy=EVERYTHING,
    )
    extinction = k / abs(u)
    each = []
    for (_, s), w in zip(s_g, block.weights[0], strict=True):
        effective = np.hypot(s, 1 / extinction)
        each.append(w * np.sin(np.pi * thickness * effective) ** 2 / (extinction * effective) ** 2)
    diffracted = np.sum(each, axis=0)
    np.testing.assert_allclose(EIGEN.intensities(block)[0, 1], diffracted, atol=1e-13)
    np.testing.assert_allclose(EIGEN.intensities(block)[0, 0], block.weights.sum() - diffracted, atol=1e-13)
    np.testing.assert_allclose(TwoBeamSolver().intensities(block)[0, 1], diffracted, atol=1e-13)


@pytest.mark.parametrize("make", [block_of, inclined])
def test_two_beam_solver_is_eigen_of_each_pair(make):
    block = replace(make(beams=12), wanted=np.arange(1, 12))
    found = TwoBeamSolver().intensities(block)
    for n in range(1, 12):
        pair = np.array([0, n])
        two = replace(
            block,
            u=block.u[np.ix_(pair, pair)],
            s_g=block.s_g[:, pair],
            surface=block.surface[:, pair],
            wanted=np.array([1]),
        )
        np.testing.assert_allclose(found[:, n - 1], EIGEN.intensities(two)[:, 0], atol=1e-13)


@pytest.mark.parametrize("solver", [EIGEN, PROPAGATOR, TwoBeamSolver()])
@pytest.mark.parametrize("make", [block_of, inclined])
def test_kinematical_limit(solver, make):
    whole = make(strength=0.03)
    block = replace(whole, u=1e-4 * whole.u, wanted=np.arange(1, len(whole.u)), thickness=np.array([100.0, 450.0]))
    expected = KinematicalSolver().intensities(block)
    # second order of the wave over first: π t U/K × √N, about 1e-4 × 450 × 0.03 × π/40 × 5
    tolerance = 5e-3 * expected.max(axis=2, keepdims=True)
    assert np.all(np.abs(solver.intensities(block) - expected) <= tolerance)


def test_kinematical_intensity_over_a_whole_rocking_curve_is_proportional_to_thickness():
    """∫ I dS = |π U/K|² t, with M = 1."""
    s = np.arange(-400, 400) * 2.5e-4
    u = 0.01 + 0.004j
    block = Block(
        u=np.array([[0, np.conj(u)], [u, 0]]),
        s_g=np.stack([np.zeros_like(s), s], axis=1),
        surface=np.ones((len(s), 2)),
        weights=np.full((1, len(s)), 2.5e-4),
        wanted=np.array([1]),
        thickness=np.array([300.0, 900.0]),
        wavenumber=40.0,
        accuracy=EVERYTHING,
    )
    expected = (np.pi * abs(u) / 40.0) ** 2 * block.thickness
    # the tails beyond 0.1 Å⁻¹ hold 1/(π² t 0.1) of it
    np.testing.assert_allclose(KinematicalSolver().intensities(block)[0, 0], expected, rtol=4e-3)


# ---- derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("make", [block_of, inclined])
def test_adjoint_against_finite_differences(solver, make):
    for seed in range(3):
        block = replace(make(seed=seed, beams=14), wanted=np.array([3, 1, 7, 12, 3]))
        exact, numerical = slopes(solver, block, seed=seed)
        # five-point error and rounding are both about 1e-9; absolute where the slope happens to be small
        scale = np.linalg.norm(solver.adjoint(block, random_seed(block)).u)
        assert exact == pytest.approx(numerical, rel=1e-7, abs=1e-7 * scale)


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("make", [block_of, inclined])
def test_slopes_by_the_excitation_errors(solver, make):
    block = replace(make(beams=14), wanted=np.array([3, 1, 7, 12, 3]))
    seed, direction = random_seed(block), np.random.default_rng(4).normal(size=block.s_g.shape)

    def target(x):
        return np.sum(seed * solver.intensities(replace(block, s_g=block.s_g + x * direction)))

    exact = np.sum(solver.adjoint(block, seed).s_g * direction)
    assert exact == pytest.approx(plain_reference.derivative(target, 2e-6), rel=1e-7)


def test_slopes_by_the_excitation_errors_of_folded_beams():
    block = block_of(beams=60, tilts=8)
    block = replace(block, accuracy=Accuracy(s_max=10.0, s_strong=float(np.median(np.abs(block.s_g)))))
    seed, direction = random_seed(block), np.random.default_rng(4).normal(size=block.s_g.shape)

    def target(x):
        return np.sum(seed * PROPAGATOR.intensities(replace(block, s_g=block.s_g + x * direction)))

    exact = np.sum(PROPAGATOR.adjoint(block, seed).s_g * direction)
    assert exact == pytest.approx(plain_reference.derivative(target, 1e-6), rel=1e-7)


@pytest.mark.parametrize("kind", DEGENERATE)
def test_adjoint_at_exact_degeneracy(kind):
    block = degenerate(kind)
    exact, numerical = slopes(EIGEN, block, step=5e-6)
    scale = np.abs(EIGEN.adjoint(block, random_seed(block)).u).max()
    assert exact == pytest.approx(numerical, rel=1e-7, abs=1e-7 * max(scale, 1.0))


def nearly_degenerate(gap):
    """A random Hermitian matrix whose eigenvalues come in multiplets, each ``gap`` apart in Å⁻²."""
    block, rng = block_of(beams=8, tilts=1), np.random.default_rng(6)
    x = np.array([0.0, 0.0, 0.0, 0.04, 0.04, -0.03, -0.03, 0.1]) + gap * np.arange(8)
    q, _ = np.linalg.qr(rng.normal(size=(8, 8)) + 1j * rng.normal(size=(8, 8)))
    a = (q * x) @ q.conj().T
    a = 0.5 * (a + a.conj().T)
    s_g = np.diag(a).real[None, :] / (2 * block.wavenumber)
    return replace(block, u=a - np.diag(np.diag(a)), s_g=s_g, surface=np.ones_like(s_g))


@pytest.mark.parametrize("gap", [0.0, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_adjoint_is_exact_through_a_closing_gap(gap):
    """Across the change from divided difference to sinc: same slopes as by the exponential of a bordered matrix."""
    block = nearly_degenerate(gap)
    exact, _ = slopes(EIGEN, block)
    # divided differences lose a digit for each tenfold closing of the gap, down to the 1e-4 of the sinc
    assert exact == pytest.approx(_slope_by_exponential(block), rel=1e-9)


def _slope_by_exponential(block):
    """Frechet derivative of the exponential: exp [[A, E], [0, A]] holds it in its corner."""
    n, weights = len(block.u), random_seed(block)
    direction = hermitian_direction(n)
    total = 0.0
    for b in range(len(block.s_g)):
        m = np.outer(block.surface[b], block.surface[b])
        a = block.u * m
        np.fill_diagonal(a, 2 * block.wavenumber * block.s_g[b] * block.surface[b] ** 2)
        bordered = np.block([[a, direction * m], [np.zeros_like(a), a]])
        for n_t, t in enumerate(block.thickness):
            both = plain_reference.scattering_matrix(bordered, t, block.wavenumber)
            wave, change = both[:n, 0], both[:n, n]
            by_sum = weights[:, :, n_t] @ (2 * (wave.conj() * change).real[block.wanted])
            total += block.weights[:, b] @ by_sum
    return total


@pytest.mark.parametrize("make", [block_of, inclined])
def test_every_element_of_the_coupling_counts_as_independent(make):
    """Not only along Hermitian directions: the adjoint is that of the matrix exponential."""
    block = replace(make(beams=6, tilts=2), wanted=np.array([1, 4]))
    weights = random_seed(block)
    gradient = EIGEN.adjoint(block, weights).u
    assert np.all(np.diag(gradient) == 0.0)
    for i, j in ((0, 1), (4, 2), (3, 5)):
        for unit in (1.0, 1j):

            def target(x, i=i, j=j, unit=unit):
                u = block.u.copy()
                u[i, j] += x * unit
                return np.sum(weights * plain_reference.intensities(replace(block, u=u)))

            exact = (np.conj(gradient[i, j]) * unit).real
            assert exact == pytest.approx(
                plain_reference.derivative(target, 1e-4), rel=1e-6, abs=1e-7 * np.abs(gradient).max()
            )


def test_thicknesses_may_come_in_any_order():
    block, order = block_of(), np.array([2, 0, 1])
    seed = random_seed(block)
    shuffled = replace(block, thickness=block.thickness[order])
    np.testing.assert_allclose(
        EIGEN.intensities(shuffled), EIGEN.intensities(block)[..., order], rtol=1e-12, atol=1e-15
    )
    gradient = EIGEN.adjoint(block, seed).u
    found = EIGEN.adjoint(shuffled, seed[..., order]).u
    np.testing.assert_allclose(found, gradient, atol=1e-11 * np.abs(gradient).max())
    with_nothing = replace(block, thickness=np.array([450.0, 1000.0, 0.0]))
    found = EIGEN.adjoint(with_nothing, np.roll(seed, -1, axis=2) * [1.0, 1.0, 0.0]).u
    expected = EIGEN.adjoint(replace(block, thickness=block.thickness[1:]), seed[..., 1:]).u
    np.testing.assert_allclose(found, expected, atol=1e-11 * np.abs(gradient).max())


def test_adjoint_leaves_out_what_the_wave_leaves_out():
    block = block_of(tilts=4)
    block = replace(block, accuracy=Accuracy(s_max=float(np.median(np.abs(block.s_g)))))
    exact, numerical = slopes(EIGEN, block)
    assert exact == pytest.approx(numerical, rel=1e-7)


# ---- registry -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_registry(monkeypatch):
    """A function that gives the registry for a list of entry points, with nothing remembered before or after."""
    installed_solvers.cache_clear()

    def with_entries(*entries):
        monkeypatch.setattr(registry, "entry_points", lambda group: list(entries))
        installed_solvers.cache_clear()
        return installed_solvers()

    yield with_entries
    installed_solvers.cache_clear()


def plugin_with(function):
    plugin = types.ModuleType("guest")
    setattr(plugin, function.__name__, hookspecs.hookimpl(function))
    return plugin


def guest(name):
    def edtbx_register_solvers(register):
        register(name, EigenSolver)

    return plugin_with(edtbx_register_solvers)


class Entry:
    """Stands for an importlib.metadata.EntryPoint of a distribution."""

    def __init__(self, distribution, plugin):
        self.name, self.plugin = "solvers", plugin
        self.dist = types.SimpleNamespace(name=distribution)

    def load(self):
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin


def test_built_in_solvers_come_through_the_hook():
    found = installed_solvers()
    assert {"eigen", "two_beam", "kinematical"} <= set(found.origins)
    assert found.origins["eigen"] == "edtbx"
    assert isinstance(found.create("eigen"), EigenSolver)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown solver 'eigne'.*eigen.*kinematical.*propagator.*two_beam"):
        installed_solvers().create("eigne")


def test_a_guest_is_found_and_named(fresh_registry):
    found = fresh_registry(Entry("their-package", guest("theirs")))
    assert found.origins["theirs"] == "their-package"
    assert isinstance(found.create("theirs"), EigenSolver)


def test_one_name_twice_is_an_error_that_names_both(fresh_registry):
    with pytest.raises(ValueError, match=r"'eigen'.*edtbx.*their-package"):
        fresh_registry(Entry("their-package", guest("eigen")))
    with pytest.raises(ValueError, match=r"'new'.*first-package.*second-package"):
        fresh_registry(Entry("first-package", guest("new")), Entry("second-package", guest("new")))


def test_two_packages_with_the_same_entry_point_name_both_count(fresh_registry):
    """pluggy alone would drop the second silently."""
    found = fresh_registry(Entry("one", guest("a")), Entry("two", guest("b")))
    assert {"a", "b"} <= set(found.origins)


def test_a_misspelt_hook_is_found():
    def edtbx_register_solver(register):
        register("never", EigenSolver)

    with pytest.raises(pluggy.PluginValidationError, match="edtbx_register_solver"):
        SolverRegistry().collect(plugin_with(edtbx_register_solver), "their-package")


def test_a_plugin_that_cannot_be_imported_is_named_and_left_out(fresh_registry):
    with pytest.warns(RuntimeWarning, match="broken-package could not be loaded: no cuda"):
        found = fresh_registry(Entry("broken-package", ImportError("no cuda")), Entry("good", guest("theirs")))
    assert {"eigen", "theirs"} <= set(found.origins)


def test_a_real_entry_point_that_is_missing_is_left_out(fresh_registry):
    entry = EntryPoint(name="gone", value="a_module_that_is_not_there", group="edtbx")
    with pytest.warns(RuntimeWarning, match="gone could not be loaded"):
        assert "eigen" in fresh_registry(entry).origins


def test_a_plugin_whose_hook_fails_is_named_and_left_out(fresh_registry):
    def edtbx_register_solvers(register):
        raise RuntimeError("no device")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fresh_registry(Entry("broken-package", plugin_with(edtbx_register_solvers)))
    assert "eigen" in found.origins
    assert any("broken-package" in str(warning.message) for warning in caught)


def test_the_built_ins_obey_the_hook():
    found = SolverRegistry()
    found.collect(builtin, "here")
    assert sorted(found.origins) == ["auto", "eigen", "kinematical", "propagator", "two_beam"]


@pytest.mark.parametrize("centric", [True, False])
@pytest.mark.parametrize("thickness", [300.0, 3000.0])
def test_every_orientation_has_its_spectrum_in_the_interval(thickness, centric):
    block = block_of(tilts=64, beams=60, centric=centric)
    block = replace(block, accuracy=Accuracy(s_max=0.1, s_strong=0.01), thickness=np.array([thickness]))
    found = 0
    for _, series in PROPAGATOR._series(block):
        columns, n = 1 if centric else 2, len(series.d)
        for m, d in zip(series.m.T[::columns], series.d.T[::columns], strict=True):
            eigenvalues = np.linalg.eigvalsh(np.outer(m, m) * series.a[:n] + np.diag(d))
            assert -1.0 <= eigenvalues[0] < eigenvalues[-1] <= 1.0
            found += 1
    assert found == 64


def test_an_interval_too_narrow_is_widened(monkeypatch):
    block = replace(block_of(tilts=16, beams=40), thickness=np.array([500.0, 2500.0]))
    expected, (_, pullback) = PROPAGATOR.intensities(block), PROPAGATOR.pullback(block)
    seed = np.ones_like(expected)
    adjoint = pullback(seed)
    bounds = chebyshev.spectrum
    monkeypatch.setattr(chebyshev, "spectrum", lambda *given: tuple(0.8 * bound for bound in bounds(*given)))
    assert np.abs(next(iter(PROPAGATOR._series(block)))[1].terms()[1][-1]).max() <= 1.0
    np.testing.assert_allclose(PROPAGATOR.intensities(block), expected, atol=1e-9)
    np.testing.assert_allclose(PROPAGATOR.pullback(block)[1](seed).u, adjoint.u, atol=1e-8 * np.abs(adjoint.u).max())


def test_a_coupling_that_is_not_finite_is_no_endless_series():
    block = block_of(tilts=16)
    coupling = block.u.copy()
    coupling[3, 4] = np.nan
    with pytest.raises(np.linalg.LinAlgError):
        PROPAGATOR.intensities(replace(block, u=coupling))
