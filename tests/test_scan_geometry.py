"""Rotation or precession, decided from the intensities."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.measurement.geometry import excitation_error, frame_vectors
from edtbx.measurement.scan_geometry import geometry_evidence, recognise_geometry
from edtbx_cctbx.io.cif_pets import read_experiment

ROTATION, PRECESSION = ScanGeometry.ROTATION, ScanGeometry.PRECESSION
SEMI = np.radians(1.2)


def simulated(scan: ScanGeometry, header: ScanGeometry, repeated: bool, frames: int = 12, seed: int = 1) -> Experiment:
    """Frames 1.5 degrees apart; a reflection has intensity only where its scan excites it; all near ones are listed."""
    rng = np.random.default_rng(seed)
    axis = np.arange(-9, 10)
    hkl = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    hkl = hkl[hkl.any(axis=1)]
    empty = Reflections(
        hkl=np.zeros((0, 3), dtype=np.int64),
        intensity=np.zeros(0),
        sigma=np.zeros(0),
        frame_id=np.zeros(0, dtype=np.int64),
    )
    experiment = Experiment(
        wavelength=0.0251,
        cell=(8.0, 9.0, 10.0, 90.0, 90.0, 90.0),
        orientation=Rotation.random(rng=rng).as_matrix(),
        geometry=header,
        frames=tuple(Frame(id=n, alpha=np.radians(1.5 * n), beta=0.0, semi_angle=SEMI) for n in range(frames)),
        reflections=empty,
    )
    integrated = rng.gamma(0.5, 2000.0, len(hkl))
    rows = []
    for frame in experiment.frames:
        g = frame_vectors(experiment, frame, hkl)
        s_g = np.abs(excitation_error(g, 1.0 / experiment.wavelength))
        reach = np.abs(g[:, 1]) if scan is ROTATION else np.linalg.norm(g, axis=1)
        frames_own = 1.0 if repeated else rng.uniform(0.3, 1.7, len(hkl))
        true = integrated * frames_own * (s_g < reach * SEMI + 0.001)
        listed = np.flatnonzero(s_g < 1.3 * np.linalg.norm(g, axis=1) * SEMI)
        noise = 0.0 if repeated else rng.normal(0.0, 50.0, len(listed))
        rows.append(
            Reflections(
                hkl=hkl[listed],
                intensity=true[listed] + noise,
                sigma=np.full(len(listed), 50.0),
                frame_id=np.full(len(listed), frame.id),
            )
        )
    joined = {name: np.concatenate([getattr(r, name) for r in rows]) for name in Reflections.__slots__}
    return replace(experiment, reflections=Reflections(**joined))


@pytest.mark.parametrize("header", ScanGeometry)
@pytest.mark.parametrize(
    ("scan", "repeated", "because"),
    [
        (ROTATION, True, "repeated in the next frame, as in overlapping"),
        (ROTATION, False, "outside the sweep"),
        (PRECESSION, False, "outside the sweep"),
    ],
)
def test_the_data_decide_whatever_the_header_says(header, scan, repeated, because):
    geometry, evidence = recognise_geometry(simulated(scan, header, repeated))
    assert geometry is scan
    assert because in evidence


def test_a_scale_for_each_frame_does_not_hide_the_repetition():
    experiment = simulated(ROTATION, PRECESSION, repeated=True)
    rows = experiment.reflections
    scale = np.random.default_rng(0).uniform(0.5, 2.0, len(experiment.frames))[rows.frame_id]
    scaled = replace(rows, intensity=rows.intensity * scale, sigma=rows.sigma * scale)
    assert recognise_geometry(replace(experiment, reflections=scaled))[0] is ROTATION


@pytest.mark.parametrize("header", ScanGeometry)
@pytest.mark.parametrize("few", [0, 1, 20])
def test_too_few_reflections_leave_it_to_the_header(header, few):
    experiment = simulated(PRECESSION, header, repeated=False)
    small = replace(experiment, reflections=experiment.reflections.select(np.arange(few)))
    found, evidence = geometry_evidence(small)
    assert found is None
    assert "cannot tell" in evidence
    assert recognise_geometry(small)[0] is header


@pytest.mark.parametrize("header", ScanGeometry)
def test_noise_alone_leaves_it_to_the_header(header):
    experiment = simulated(PRECESSION, header, repeated=False)
    rows = experiment.reflections
    noise = replace(rows, intensity=np.random.default_rng(2).normal(0.0, 20.0, len(rows)))
    assert recognise_geometry(replace(experiment, reflections=noise))[0] is header


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "geometry"),
    [
        ("albite/albite", ROTATION),
        ("cspbbr3/cspbbr3", ROTATION),
        ("paracetamol/paracetamol", PRECESSION),
        ("quartz/quartz", ROTATION),
        ("quartz_dials/dials_dyn", ROTATION),
        ("urea/urea", ROTATION),
    ],
)
def test_real_sets_are_recognised_from_either_header(data_dir, name, geometry):
    for header in ScanGeometry:
        experiment = read_experiment(data_dir / f"{name}.cif_pets", geometry=header)
        assert geometry_evidence(experiment)[0] is geometry
        every_third = experiment.select_frames([frame.id for frame in experiment.frames][: len(experiment.frames) // 3])
        assert recognise_geometry(every_third)[0] is geometry
