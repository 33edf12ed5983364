"""Weights of the orientation spread, and the orientations of a frame."""

import numpy as np
import plain_reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edtbx.intensities.quadrature import Quadrature, spread_weights, tilts_needed
from edtbx.measurement.experiment import ScanGeometry
from edtbx.measurement.geometry import excitation_error, rotate

NODES = np.radians(0.06) * np.arange(-5, 6)
STEP = NODES[1] - NODES[0]


@pytest.mark.parametrize("centre", [0.0, 0.31, -2.7, 4.9, 7.5])
@pytest.mark.parametrize("sigma", [0.05, 0.7, 3.0])
def test_weights_against_numerical_integration(centre, sigma):
    found = spread_weights(NODES, centre * STEP, sigma * STEP)
    np.testing.assert_allclose(found, plain_reference.spread_weights(NODES, centre * STEP, sigma * STEP), atol=1e-9)


@given(st.floats(-0.02, 0.02), st.floats(0.0, 0.02), st.integers(1, 11))
@settings(max_examples=50)
def test_weights_are_a_partition_of_one(centre, sigma, nodes):
    weights = spread_weights(NODES[:nodes], centre, sigma)
    assert weights.shape == (nodes,)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights.min() > -1e-12  # second differences round


@given(st.floats(-5.0, 5.0))
def test_no_spread_is_linear_interpolation(place):
    values = np.cos(np.arange(11.0))
    weights = spread_weights(NODES, place * STEP, 0.0)
    assert np.sum(weights > 1e-12) <= 2
    assert weights @ values == pytest.approx(np.interp(place * STEP, NODES, values), abs=1e-12)


def test_no_spread_beyond_the_last_node_takes_that_node():
    last, first = np.eye(11)[[-1, 0]]
    np.testing.assert_allclose(spread_weights(NODES, 9.0 * STEP, 0.0), last, atol=1e-14)
    np.testing.assert_allclose(spread_weights(NODES, -9.0 * STEP, 0.0), first, atol=1e-14)


def test_a_vanishing_spread_is_none():
    none = spread_weights(NODES, 0.3 * STEP, 0.0)
    np.testing.assert_allclose(spread_weights(NODES, 0.3 * STEP, 1e-7 * STEP), none, atol=1e-12)


def test_mean_and_variance_within_the_nodes():
    centre, sigma = 0.4 * STEP, 0.8 * STEP
    weights = spread_weights(NODES, centre, sigma)
    assert weights @ NODES == pytest.approx(centre, rel=1e-6)  # interpolation keeps the mean; 5 σ of tail are cut
    # the hat functions add p(1−p) step², p the place between nodes: 1/6 on average, all but evenly met at this σ
    variance = weights @ (NODES - centre) ** 2
    assert variance == pytest.approx(sigma**2 + STEP**2 / 6, rel=1e-4)


def test_spanning_nodes_are_equally_spaced_and_hold_the_centre():
    nodes = Quadrature.spanning(1, 0.4, 0.1).y
    np.testing.assert_allclose(nodes, 0.1 * np.arange(-4, 5), atol=1e-15)  # not 5, although 0.4/0.1 > 4 in floats
    np.testing.assert_allclose(Quadrature.spanning(1, 0.41, 0.1).y, 0.1 * np.arange(-5, 6), atol=1e-15)
    assert Quadrature.spanning(1, 0.0, 0.1).y.tolist() == [0.0]


def test_spanning_nodes_may_hold_the_centre_between_them():
    nodes = Quadrature.spanning(1, 0.25, 0.1, between=True).y
    np.testing.assert_allclose(nodes, [-0.25, -0.15, -0.05, 0.05, 0.15, 0.25], atol=1e-15)
    np.testing.assert_allclose(
        Quadrature.spanning(1, 0.26, 0.1, between=True).y, 0.1 * np.arange(-3.5, 4.0), atol=1e-15
    )


def rows_of(quadrature, geometry, semi):
    """x and y of the tilts at each node."""
    o = quadrature.orientations(geometry, semi)
    assert np.all((o.weights > 0.0).sum(axis=0) == 1)
    np.testing.assert_allclose(o.weights.sum(axis=1), 1.0)
    return [(o.x[some], o.y[some]) for some in o.weights > 0.0]


def test_tilts_of_a_rotation_are_the_midpoints_of_equal_parts_shifted_from_row_to_row():
    rows = rows_of(Quadrature(tilts=8, y=NODES), ScanGeometry.ROTATION, 0.02)
    assert len(rows) == len(NODES)
    for (x, y), node in zip(rows, NODES, strict=True):
        assert np.all(y == node)
        assert np.all(np.abs(x) <= 0.02)
        np.testing.assert_allclose(np.diff(x), 0.04 / 8, rtol=1e-12)
    np.testing.assert_allclose(rows[0][0], 0.02 * (np.arange(8) - 3.5) / 4, atol=1e-16)
    shifts = np.array([x[0] for x, _ in rows])
    assert np.min(np.abs(np.subtract.outer(shifts, shifts)[~np.eye(len(rows), dtype=bool)])) > 1e-5


def test_tilts_of_a_precession_go_once_round_the_cone():
    rows = rows_of(Quadrature(tilts=9, y=NODES), ScanGeometry.PRECESSION, 0.02)
    for x, y in rows:
        centre = y.mean()
        np.testing.assert_allclose(np.hypot(x, y - centre), 0.02, rtol=1e-12)
        np.testing.assert_allclose([x.mean(), x @ x / 9, x @ (y - centre)], [0.0, 0.0002, 0.0], atol=1e-16)
    np.testing.assert_allclose([y.mean() for _, y in rows], NODES, atol=1e-16)


def test_orientations_summed_over_the_nodes_keep_their_weight():
    orientations = Quadrature(tilts=8, y=NODES).orientations(ScanGeometry.ROTATION, 0.02)
    over_y = np.zeros(len(NODES))
    over_y[:2] = 0.25, 0.75
    summed = orientations.summed(over_y[None])
    assert summed.weights.shape == (1, 16)
    np.testing.assert_allclose(summed.weights @ summed.y, 0.25 * NODES[0] + 0.75 * NODES[1])


@pytest.mark.parametrize("geometry", ScanGeometry)
def test_the_tilts_needed_integrate_a_rocking_curve(geometry):
    """sinc²(t S) over the scan: from there on the shift of the sampling does not matter; far below, it does."""
    thickness, semi, wavenumber = 1200.0, 0.02, 40.0
    g = np.array([[0.3, 1.1, 0.0 + (0.3**2 + 1.1**2) / (2 * wavenumber)]])  # at its Bragg position in the centre
    if geometry is ScanGeometry.PRECESSION:
        g[0, 2] += 0.4 * semi * np.hypot(0.3, 1.1)
    lever = 1.1 if geometry is ScanGeometry.ROTATION else float(np.linalg.norm(g))
    needed = tilts_needed(thickness, semi, lever, geometry)

    def uneven(tilts):
        rows = rows_of(Quadrature(tilts=tilts, y=np.zeros(7)), geometry, semi)
        means = [np.mean(np.sinc(thickness * excitation_error(rotate(g, x, y), wavenumber)) ** 2) for x, y in rows]
        return np.ptp(means) / np.mean(means)

    assert uneven(needed) < 0.01  # what is left comes from the ends of the scan
    assert uneven(needed // 2) > 0.1


def test_tilts_needed_by_hand():
    # 1000 Å × 2·0.02 × 1.5 Å⁻¹ = 60; π times as many round the cone
    assert tilts_needed(1000.0, 0.02, 1.5, ScanGeometry.ROTATION) == pytest.approx(61, abs=1)
    assert tilts_needed(1000.0, 0.02, 1.5, ScanGeometry.PRECESSION) == pytest.approx(190, abs=1)
