"""Frames that overlap: each orientation once, and what it changes (nothing but the cost)."""

from dataclasses import replace

import numpy as np
import plain_reference
import pytest
from test_jacobian import shaken
from test_target import RULES, SAMPLING, experiment_for, model_in

from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.nuisance import Nuisance
from edtbx.measurement.experiment import Frame, ScanGeometry
from edtbx.measurement.geometry import excitation_errors, frame_vectors, place_in_frame
from edtbx.measurement.stretches import stretches_of_scans, whole_frames
from edtbx_cctbx.targets.theories import DynamicalTarget

SEMI = 0.03
NODES = np.radians(np.arange(-4, 5) * 0.05)


def a_scan(step=0.04, number=5, beta=3e-4, seed=2):
    """Frames at almost equal steps, each with an orientation of its own, ids in no order."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(number) + 1
    alpha = step * (np.arange(number) + rng.uniform(-0.1, 0.1, number)) - 0.3
    of_id = {
        int(i): (float(a), float(b)) for i, a, b in zip(ids, alpha, beta * rng.standard_normal(number), strict=True)
    }
    return tuple(Frame(id=i, alpha=of_id[i][0], beta=of_id[i][1], semi_angle=SEMI) for i in sorted(of_id))


def bases_for(frames, seed=3):
    return np.radians(0.1) * np.random.default_rng(seed).standard_normal(len(frames))


@pytest.fixture(scope="module")
def crystal_and_data():
    structure = model_in("P 1")
    return structure, experiment_for(structure, scan=a_scan())


def target_for(crystal_and_data, shared, **sampling):
    structure, experiment = crystal_and_data
    number = len(experiment.frames)
    nuisance = Nuisance(
        shape="wedge",
        thickness=430.0,
        sigma=np.radians(0.07),
        centres=bases_for(experiment.frames),
        scales=np.linspace(0.7, 1.4, number),
        thickness_factors=np.linspace(1.2, 0.8, number),
        sigma_factors=np.linspace(0.7, 1.1, number),
    )
    sampling = replace(SAMPLING, spread_reach=np.radians(0.6), shared=shared, **sampling)
    # the eigensolver takes the beams near each orientation, whichever others it is computed with
    kinds = {"solver": "eigen", "rules": RULES, "nuisance": nuisance, "nproc": 2}
    return DynamicalTarget(experiment, structure, sampling=sampling, **kinds), structure


# ---- where the orientations are ---------------------------------------------------------------------------------------


def test_a_frame_is_the_whole_of_its_stretches():
    frames, tilts = a_scan(), [40, 41, 42, 43, 44]
    stretches, bases = stretches_of_scans(frames, tilts, NODES, bases_for(frames))
    parts = np.zeros(len(frames))
    for stretch in stretches:
        for share in stretch.shares:
            parts[share.frame] += share.part
            frame = frames[share.frame]
            x = stretch.frame.semi_angle * np.array([-1.0, 1.0])
            nodes = stretch.y[share.first : share.first + len(NODES)]
            for y, expected in zip(nodes, bases[share.frame] + NODES, strict=True):
                there_x, there_y = place_in_frame(frame, stretch.frame, x, y)
                assert np.abs(there_x).max() < SEMI + 1e-4
                np.testing.assert_allclose(there_y, expected, atol=0.1 * (NODES[1] - NODES[0]))
            width = 2.0 * stretch.frame.semi_angle / stretch.tilts
            assert width <= 2.0 * SEMI / tilts[share.frame] + 1e-12
    np.testing.assert_allclose(parts, 1.0, rtol=1e-12)
    assert np.abs(bases - bases_for(frames)).max() <= 0.5 * (NODES[1] - NODES[0]) + 1e-12
    assert {len(stretch.shares) for stretch in stretches} == {1, 2}


def test_a_place_in_another_frame_has_the_same_excitation_errors(crystal_and_data):
    _, experiment = crystal_and_data
    one, other = experiment.frames[:2]
    x, y = np.array([0.01, -0.02]), np.array([0.003, 0.001])
    there = place_in_frame(one, other, x, y)
    hkl = np.array([[1, 2, 3], [-2, 1, 0], [0, 1, -4]])
    expected = excitation_errors(frame_vectors(experiment, other, hkl), x, y, 30.0)
    np.testing.assert_allclose(
        excitation_errors(frame_vectors(experiment, one, hkl), *there, 30.0), expected, atol=1e-12
    )


@pytest.mark.parametrize("step", [0.03, 0.04, 0.05])
def test_orientations_are_fewer_by_the_overlap(step):
    frames = a_scan(step, number=30, beta=0.0)
    overlap = 2.0 * SEMI * len(frames) / (np.ptp([frame.alpha for frame in frames]) + 2.0 * SEMI)
    tilts, bases = [100] * len(frames), np.zeros(len(frames))
    alone = sum(stretch.tilts * len(stretch.y) for stretch in whole_frames(frames, tilts, NODES, bases)[0])
    shared = sum(stretch.tilts * len(stretch.y) for stretch in stretches_of_scans(frames, tilts, NODES, bases)[0])
    assert alone / shared == pytest.approx(overlap, rel=0.04)


def test_frames_of_almost_the_same_ends_make_no_slivers():
    frames = tuple(Frame(id=n, alpha=SEMI * n * (1.0 + 1e-9), beta=0.0, semi_angle=SEMI) for n in range(5))
    stretches, _ = stretches_of_scans(frames, [30] * 5, NODES, np.zeros(5))
    assert len(stretches) == 6
    assert [stretch.tilts for stretch in stretches] == [15] * 6


def test_three_frames_may_share_an_orientation():
    frames = a_scan(step=0.025)
    stretches, _ = stretches_of_scans(frames, [30] * 5, NODES, np.zeros(5))
    assert max(len(stretch.shares) for stretch in stretches) == 3


@pytest.mark.parametrize(
    ("frames", "bases"),
    [
        pytest.param(a_scan(step=0.08), np.zeros(5), id="apart"),
        pytest.param(a_scan(beta=0.2), np.zeros(5), id="askew"),
        pytest.param(a_scan(), np.radians([0.0, 0.9, 0.0, 1.8, 0.9]), id="beside"),
    ],
)
def test_frames_that_share_no_orientations_stay_as_they_are(frames, bases):
    number = len(frames)
    found, moved = stretches_of_scans(frames, [30] * number, NODES, bases)
    lone = [stretch for stretch in found if len(stretch.shares) == 1 and stretch.shares[0].part == 1.0]
    assert len(found) == number
    assert len(lone) == number
    np.testing.assert_array_equal(moved, bases)


# ---- what they give ---------------------------------------------------------------------------------------------------


def test_intensities_are_those_of_frames_alone(crystal_and_data):
    fine = {"tilts": 200, "spread_spacing": np.radians(0.03)}
    (alone, structure), (shared, _) = (target_for(crystal_and_data, kind, **fine) for kind in (False, True))
    f = alone.structure_factors(structure)
    assert shared.forward.waves_per_frame < 0.85 * alone.forward.waves_per_frame
    expected = alone.forward.intensities(f, alone.nuisance)
    for found, of_frame in zip(shared.forward.intensities(f, alone.nuisance), expected, strict=True):
        np.testing.assert_allclose(found, of_frame, atol=2e-3 * of_frame.max())


def test_precession_stays_as_it_is():
    structure = model_in("P 1")
    data = structure, experiment_for(structure, scan=a_scan(), geometry=ScanGeometry.PRECESSION)
    (alone, _), (shared, _) = (target_for(data, kind) for kind in (False, True))
    f = alone.structure_factors(structure)
    expected = alone.forward.intensities(f, alone.nuisance)
    found = shared.forward.intensities(f, alone.nuisance)
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_cubes_sum_to_the_intensities(crystal_and_data):
    target, structure = target_for(crystal_and_data, True)
    f, nuisance = target.structure_factors(structure), target.nuisance
    cubes = target.forward.cubes(f)
    assert [cube.frame_id for cube in cubes] == list(target.observations.frame_ids)
    scaled = nuisance.intensities(target.forward.grid, cubes)
    for found, scale, expected in zip(scaled, nuisance.scales, target.forward.intensities(f, nuisance), strict=True):
        np.testing.assert_allclose(found, scale * expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_derivatives_are_those_of_the_intensities(crystal_and_data):
    """Gradient and rows of a scan against finite differences of its intensities."""
    target, structure = target_for(crystal_and_data, True)
    forward, f, nuisance = target.forward, target.structure_factors(structure), target.nuisance
    rng = np.random.default_rng(5)
    seeds = [rng.standard_normal(len(i)) for i in forward.intensities(f, nuisance)]
    towards = shaken(f, forward.vectors, 0.05)

    def along(d):
        return np.concatenate(forward.intensities(f + d * towards, nuisance))

    expected = plain_reference.derivative(along, 1e-3)
    found = forward.gradient(f, nuisance, seeds)
    assert np.sum((found.conj() * towards).real) == pytest.approx(np.concatenate(seeds) @ expected, rel=1e-6)

    def project(where, rows):
        return (rows.conj() @ towards[where]).real[:, None]

    rows = np.concatenate(list(forward.jacobian(f, nuisance, project, Rows.EXACT)))[:, 0]
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    local = np.concatenate(list(forward.jacobian(f, nuisance, project, Rows.LOCAL)))[:, 0]
    assert np.linalg.norm(local - expected) < 0.3 * np.linalg.norm(expected)


SCANS = {
    "overlapping": a_scan(),
    "apart, backwards": tuple(Frame(id=n, alpha=-0.08 * n, beta=0.0, semi_angle=SEMI) for n in range(4)),
    "twice the same": tuple(Frame(id=n, alpha=-0.1 * (n // 2), beta=0.0, semi_angle=SEMI) for n in range(4)),
}


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
def test_the_target_has_the_gradient_of_its_value(scan):
    structure = model_in("P 1")
    target, _ = target_for((structure, experiment_for(structure, scan=scan)), True)
    forward, f, nuisance = target.forward, target.structure_factors(structure), target.nuisance
    towards = shaken(f, forward.vectors, 0.05)
    value, gradient = forward.target_and_gradient(f, nuisance)
    assert value == pytest.approx(forward.target(f, nuisance), rel=1e-12)
    slope = plain_reference.derivative(lambda d: forward.target(f + d * towards, nuisance), 1e-3)
    assert np.sum((gradient.conj() * towards).real) == pytest.approx(slope, rel=1e-6)
