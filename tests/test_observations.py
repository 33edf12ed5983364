"""Observations: which reflections are used, in the order of the frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.measurement.observations import Observations, measurements


def experiment_with(frame_id, hkl=None, intensity=None) -> Experiment:
    """Frames 7, 3, 5, in this order, and reflections on them."""
    m = len(frame_id)
    return Experiment(
        wavelength=0.0251,
        cell=(5.0, 6.0, 7.0, 90.0, 90.0, 90.0),
        orientation=np.eye(3),
        geometry=ScanGeometry.ROTATION,
        frames=tuple(Frame(id=n, alpha=0.1 * n, beta=0.0, semi_angle=0.02) for n in (7, 3, 5)),
        reflections=Reflections(
            hkl=np.stack([np.arange(m), np.ones(m, dtype=int), np.zeros(m, dtype=int)], axis=1) if hkl is None else hkl,
            intensity=np.arange(m, dtype=float) if intensity is None else intensity,
            sigma=np.full(m, 2.0),
            frame_id=np.array(frame_id, dtype=int),
        ),
    )


@given(st.lists(st.tuples(st.sampled_from([3, 5, 7]), st.booleans()), max_size=30))
def test_used_rows_come_frame_by_frame(rows):
    experiment = experiment_with([frame_id for frame_id, _ in rows])
    used = np.array([use for _, use in rows], dtype=bool)
    observations = Observations.of(experiment, used)
    expected = [[n for n, row in enumerate(rows) if row == (frame_id, True)] for frame_id in (7, 3, 5)]
    assert observations.frame_ids == tuple(f for f, places in zip((7, 3, 5), expected, strict=True) if places)
    assert [part.tolist() for part in observations.split(observations.rows)] == [part for part in expected if part]
    assert len(observations) == used.sum()
    reflections = observations.reflections
    np.testing.assert_array_equal(reflections.hkl, experiment.reflections.hkl[observations.rows])
    np.testing.assert_array_equal(reflections.observed, reflections.intensity > 6.0)
    for n, frame_id in enumerate(observations.frame_ids):
        assert set(observations.split(reflections.frame_id)[n].tolist()) == {frame_id}


def test_some_frames_are_those_of_fewer_rows():
    experiment = experiment_with([3, 7, 5, 7, 3, 5, 5])
    unique = np.array([4, 4, 2, 1, 0, 0, 9])
    whole = Observations.of(experiment, np.ones(7, dtype=bool), unique)
    assert whole.frame_ids == (7, 3, 5)
    some, expected = whole.at([0, 2]), Observations.of(experiment, experiment.reflections.frame_id != 3, unique)
    for name in ("rows", "unique", "edges", "frame_ids", "multiplicity"):
        np.testing.assert_array_equal(getattr(some, name), getattr(expected, name))
    assert some.rows.tolist() == [1, 3, 2, 5, 6]
    assert some.unique.tolist() == [4, 1, 2, 0, 9]


def test_a_measurement_that_frames_share_is_counted_among_those_used():
    """Equal in indices, intensity and s.u.; symmetry equivalents are other measurements."""
    hkl = np.array([[1, 2, 3], [1, 2, 3], [-1, -2, -3], [1, 2, 3], [0, 0, 4]])
    experiment = experiment_with([7, 3, 3, 5, 5], hkl, np.array([9.0, 9.0, 9.0, 8.0, 1.0]))
    assert len(set(measurements(experiment.reflections)[[0, 1]])) == 1
    whole = Observations.of(experiment, np.ones(5, dtype=bool))
    assert whole.multiplicity.tolist() == [2.0, 2.0, 1.0, 1.0, 1.0]
    assert whole.at([1, 2]).multiplicity.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("number", "fewest", "places"), [(1, 1, [1]), (1, 2, [0, 2]), (4, 1, [0, 2]), (99, 1, [0, 1, 2])]
)
def test_some_of_the_frames_are_spread_evenly(number, fewest, places):
    observations = Observations.of(experiment_with([7, 7, 3, 3, 5, 5]), np.ones(6, dtype=bool))
    assert observations.evenly(number, fewest) == places
