"""Rows of the Jacobian and all derivatives of a frame, against adjoints, other algorithms and finite differences."""

from dataclasses import replace

import numpy as np
import plain_reference
import pytest
from test_solvers import CELL, DEGENERATE, EIGEN, EVERYTHING, G_MAX, PROPAGATOR, block_of, degenerate, inclined
from test_target import experiment_for, model_in, target_for

from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.local_jacobian import local_jacobian
from edtbx.intensities.nuisance import Nuisance
from edtbx.intensities.potential import GVectors, indices_within
from edtbx.intensities.thickness import LAWS
from edtbx.measurement.geometry import excitation_error, rotate
from edtbx.solvers.auto import AutoSolver
from edtbx.solvers.block import Accuracy
from edtbx.solvers.kinematical import KinematicalSolver

FOLDED = Accuracy(s_max=10.0, s_strong=0.01)


def seed_of(block):
    return np.random.default_rng(0).normal(size=(len(block.weights), len(block.thickness)))


def one_by_one(solver, block, seed):
    """A row for each wanted beam, by an adjoint of its own."""
    for place in range(len(block.wanted)):
        alone = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
        alone[:, place] = seed
        yield solver.adjoint(block, alone).u


@pytest.mark.parametrize("solver", [PROPAGATOR, EIGEN, AutoSolver()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("centric", [False, True])
@pytest.mark.parametrize("accuracy", [EVERYTHING, FOLDED, replace(FOLDED, tolerance=1e-5)])
def test_rows_are_the_adjoints_of_single_beams(solver, centric, accuracy):
    """Some orientations in several groups, beams wanted in no order, one of them twice."""
    block = replace(block_of(beams=40, tilts=30, centric=centric), accuracy=accuracy, wanted=np.array([9, 0, 3, 39, 3]))
    rows = dict(solver.jacobian_rows(block, seed_of(block)))
    assert sorted(rows) == list(range(5))
    tolerance = 1e-6 if accuracy.tolerance > 1e-6 else 1e-12
    for place, expected in enumerate(one_by_one(solver, block, seed_of(block))):
        assert rows[place].dtype == block.u.dtype
        np.testing.assert_allclose(rows[place], expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("reach", "seen"), [(3.0, True), (1.1, False)])
def test_a_beam_that_is_never_strong_has_a_row_while_it_is_followed(reach, seen):
    block = block_of(beams=40, tilts=8)
    nearest = np.abs(block.s_g).min(axis=0)
    farthest = int(np.argmax(nearest))
    accuracy = replace(FOLDED, s_strong=0.9 * nearest[farthest], s_max=reach * nearest[farthest])
    block = replace(block, accuracy=accuracy, wanted=np.array([farthest, 0]))
    rows = dict(PROPAGATOR.jacobian_rows(block, seed_of(block)))
    expected = PROPAGATOR.adjoint(block, seed_of(block)[:, None, :] * np.array([[1.0], [0.0]])).u
    assert np.any(expected) == seen
    np.testing.assert_allclose(rows[0], expected, rtol=0, atol=1e-12)
    assert np.any(rows[1])


# ---- local rows -----------------------------------------------------------------------------------------------------


def vectors_and_indices(beams, seed=0):
    """Lattice vectors, and differences that are all different: the first beams in a general order."""
    vectors = GVectors.from_indices(indices_within(CELL, 2 * G_MAX), G_MAX)
    inside = indices_within(CELL, G_MAX)
    order = np.random.default_rng(seed).permutation(len(inside))[: beams - 1]
    hkl = np.concatenate([np.zeros((1, 3), dtype=int), inside[order][np.any(inside[order], axis=1)]])
    return vectors, hkl


def collected(vectors, hkl, row):
    return vectors.collect(hkl, row.astype(complex))


def local_rows_of(block, vectors, hkl):
    """Of all g vectors, by the places of the beams."""
    rows = {}
    for place, where, row in local_jacobian(block, seed_of(block), vectors, hkl):
        rows[place] = np.zeros(len(vectors.hkl), dtype=complex)
        rows[place][where] = row
    return rows


def hard_block(kind):
    if kind in DEGENERATE:
        return degenerate(kind)
    return inclined(beams=24) if kind == "inclined" else block_of(beams=24, centric=kind == "centric")


@pytest.mark.parametrize("kind", ["general", "inclined", "centric", *DEGENERATE])
def test_local_rows_are_exact_where_no_beam_is_folded(kind):
    block = hard_block(kind)
    vectors, hkl = vectors_and_indices(len(block.u) + 1)
    hkl = hkl[: len(block.u)]
    block = replace(block, wanted=np.array([2, 0, 5]))
    seed = seed_of(block)
    rows = local_rows_of(block, vectors, hkl)
    largest = max(np.abs(row).max() for row in rows.values())
    assert largest > 1.0 or kind in (
        "no potential, equal S",
        "everything zero",
    )  # where I(U) has its minimum or maximum
    for place, expected in enumerate(one_by_one(EIGEN, block, seed)):
        expected = collected(vectors, hkl, expected)
        np.testing.assert_allclose(rows[place], expected, rtol=0, atol=1e-8 * max(largest, np.abs(expected).max()))


def test_local_rows_leave_out_beams_that_are_too_far():
    block = replace(block_of(beams=24), accuracy=Accuracy(s_max=0.01))
    vectors, hkl = vectors_and_indices(25)
    rows = local_rows_of(block, vectors, hkl[:24])
    for place, expected in enumerate(one_by_one(EIGEN, block, seed_of(block))):
        expected = collected(vectors, hkl[:24], expected)
        np.testing.assert_allclose(rows[place], expected, rtol=0, atol=1e-8 * max(1.0, np.abs(expected).max()))


# ---- a whole frame --------------------------------------------------------------------------------------------------

TURNED = (np.radians(0.13), -np.radians(0.04))


@pytest.fixture(scope="module", params=["P 1", "P 41 21 2"])
def target(request):
    structure = model_in(request.param)
    return target_for(structure, experiment_for(structure)), structure


def shaken(f, vectors, size, seed=4):
    """A direction in which a real potential can change."""
    rng = np.random.default_rng(seed)
    step = size * (rng.normal(size=len(f)) + 1j * rng.normal(size=len(f)))
    return 0.5 * (step + step[vectors.find(-vectors.hkl)].conj())


def nuisance_like(target, shape="wedge", **changes):
    frames = len(target.forward.waves)
    base = Nuisance(
        shape=shape, thickness=417.0, sigma=np.radians(0.07), centres=np.full(frames, 4e-4), scales=np.ones(frames)
    )
    return replace(base, **changes)


def test_rows_of_a_frame_are_derivatives_by_structure_factors(target):
    target, structure = target
    forward, nuisance = target.forward, nuisance_like(target)
    f = target.structure_factors(structure)
    directions = [shaken(f, forward.vectors, 0.05, seed) for seed in range(3)]

    def along(where, rows):
        return np.stack([(rows.conj() @ d[where]).real for d in directions], axis=1)

    exact = list(forward.jacobian(f, nuisance, along, Rows.EXACT))
    for n, direction in enumerate(directions):
        moved = {x: forward.intensities(f + x * direction, nuisance) for x in (-2e-3, -1e-3, 1e-3, 2e-3)}
        for place, found in enumerate(exact):
            numerical = plain_reference.derivative(lambda x, place=place, moved=moved: moved[x][place], 1e-3)
            np.testing.assert_allclose(found[:, n], numerical, rtol=0, atol=1e-6 * np.abs(numerical).max())


def test_local_rows_of_a_frame_are_close_to_the_exact_ones(target):
    target, structure = target
    f, nuisance = target.structure_factors(structure), nuisance_like(target)
    pairs = [
        np.concatenate(list(target.forward.jacobian(f, nuisance, summed, rows))) for rows in (Rows.EXACT, Rows.LOCAL)
    ]
    off = np.linalg.norm(pairs[1] - pairs[0]) / np.linalg.norm(pairs[0])
    assert 1e-4 < off < 0.2


def test_single_scattering_has_all_rows_in_one_pass(target):
    target, structure = target
    f, nuisance = target.structure_factors(structure), nuisance_like(target)
    forward = target.scattering.with_solver("kinematical", KinematicalSolver(), target.forward.sampling).forward
    own, exact = (np.concatenate(list(forward.jacobian(f, nuisance, summed, rows))) for rows in (Rows.OWN, Rows.EXACT))
    assert np.abs(exact).max() > 0.0
    np.testing.assert_allclose(own, exact, rtol=0, atol=1e-12 * np.abs(exact).max())


def summed(where, rows):
    """A hundred sums over the derivatives by all structure factors, with phases that tell these apart."""
    phases = np.exp(1j * np.arange(100)[:, None] * where)
    return (rows @ phases.T).real


@pytest.mark.parametrize("shape", sorted(LAWS))
def test_derivatives_by_centre_spread_and_thickness(target, shape):
    target, structure = target
    f, nuisance = target.structure_factors(structure), nuisance_like(target, shape)
    found = np.concatenate(nuisance.slopes(target.forward.grid, target.scattering.cubes(structure)))

    def intensities(**changes):
        return np.concatenate(target.forward.intensities(f, replace(nuisance, **changes)))

    numerical = np.column_stack(
        [
            plain_reference.derivative(lambda x: intensities(centres=nuisance.centres + x), 1e-6),
            plain_reference.derivative(lambda x: intensities(sigma=nuisance.sigma + x), 1e-6),
            plain_reference.derivative(lambda x: intensities(thickness=nuisance.thickness + x), 1e-4),
        ]
    )
    for column in range(3):
        scale = np.abs(numerical[:, column]).max()
        np.testing.assert_allclose(found[:, column], numerical[:, column], rtol=0, atol=1e-6 * scale)


def test_derivatives_by_the_orientation_of_a_frame(target):
    """All orientations turned together, the surface terms held."""
    target, structure = target
    f = target.structure_factors(structure)
    over_y = np.full((1, len(target.forward.grid.y)), 1.0 / len(target.forward.grid.y))
    waves, grid = replace(target.forward.waves[0].summed(over_y), accuracy=EVERYTHING), np.array([150.0, 400.0])
    cube, gradient = waves.pullback(EIGEN, f, grid)
    seed = np.random.default_rng(8).normal(size=cube.shape)
    found = gradient(seed)

    o, block = waves.orientations, waves.block(f, grid)

    def turned(x, y):
        s_g = excitation_error(rotate(waves.g, o.x + x, o.y + y), waves.wavenumber)
        return np.sum(seed * EIGEN.intensities(replace(block, s_g=s_g)))

    by_x, by_y = found.orientation
    assert by_x == pytest.approx(plain_reference.derivative(lambda d: turned(d, 0.0), 1e-5), rel=1e-6)
    assert by_y == pytest.approx(plain_reference.derivative(lambda d: turned(0.0, d), 1e-5), rel=1e-6)
