"""Conventions: metric, order of rotations, excitation error; and measured rocking curves of silicon."""

import re
from dataclasses import replace

import numpy as np
import plain_reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.measurement.geometry import (
    excitation_error,
    frame_vectors,
    orthogonalisation_matrix,
    rotate,
    scan_lever,
    ub_matrix,
)

TRICLINIC = (5.1, 6.2, 7.3, 88.0, 97.0, 104.0)
HKL = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -2, 3], [-4, 5, 6], [12, -7, 0], [0, 0, 0]])
ROUNDING = 1e-12  # relative: a few hundred operations on doubles

angles = st.floats(-3.1, 3.1)


def experiment_with(frame=None, cell=TRICLINIC, orientation=None, geometry=ScanGeometry.ROTATION, wavelength=0.0251):
    nothing = np.zeros(0)
    return Experiment(
        wavelength=wavelength,
        cell=cell,
        orientation=Rotation.random(rng=np.random.default_rng(7)).as_matrix() if orientation is None else orientation,
        geometry=geometry,
        frames=(frame or Frame(id=1, alpha=0.4, beta=-0.2, semi_angle=0.02),),
        reflections=Reflections(
            hkl=np.zeros((0, 3), dtype=np.int64), intensity=nothing, sigma=nothing, frame_id=np.zeros(0, dtype=np.int64)
        ),
    )


@given(
    st.tuples(*[st.floats(2.0, 60.0)] * 3),
    st.tuples(*[st.floats(70.0, 110.0)] * 3),
)
def test_b_is_the_root_of_the_reciprocal_metric_with_a_star_along_x(lengths, cell_angles):
    cell = (*lengths, *cell_angles)
    b = orthogonalisation_matrix(cell)
    np.testing.assert_allclose(
        b.T @ b @ plain_reference.metric(cell), np.eye(3), atol=1e-10
    )  # metric spread over 60²/2²
    assert b[1, 0] == b[2, 0] == b[2, 1] == 0.0
    assert np.all(np.diag(b) > 0.0)


@pytest.mark.parametrize("bad", [(5, 6, 7, 60, 60, 121), (5, 6, 7, 30, 30, 90), (5, 6, float("nan"), 90, 90, 90)])
def test_a_cell_without_volume_is_refused(bad):
    with pytest.raises(ValueError, match="do not span a volume"):
        orthogonalisation_matrix(bad)


def test_length_of_g_is_one_over_d():
    g = frame_vectors(experiment_with(), experiment_with().frames[0], HKL)
    inverse = np.linalg.inv(plain_reference.metric(TRICLINIC))
    d_star = [np.sqrt(h @ inverse @ h) for h in HKL]
    np.testing.assert_allclose(np.linalg.norm(g, axis=1), d_star, rtol=ROUNDING)


def test_known_spacing():
    cubic = experiment_with(cell=(4.0, 4.0, 4.0, 90.0, 90.0, 90.0))
    g = frame_vectors(cubic, cubic.frames[0], np.array([[2, 0, 0], [2, 2, 0]]))
    np.testing.assert_allclose(1.0 / np.linalg.norm(g, axis=1), [2.0, np.sqrt(2.0)], rtol=ROUNDING)


@given(angles, angles)
@settings(max_examples=30)
def test_alpha_turns_after_beta(alpha, beta):
    experiment = experiment_with(Frame(id=1, alpha=alpha, beta=beta, semi_angle=0.02))
    goniometer = plain_reference.turn((1, 0, 0), alpha) @ plain_reference.turn((0, 1, 0), beta)
    expected = [goniometer @ experiment.orientation @ orthogonalisation_matrix(TRICLINIC) @ h for h in HKL]
    np.testing.assert_allclose(frame_vectors(experiment, experiment.frames[0], HKL), expected, atol=1e-12)


def test_right_handed_quarter_turns():
    aligned = {"orientation": np.eye(3), "cell": (1.0, 1.0, 1.0, 90.0, 90.0, 90.0)}
    about_x = experiment_with(Frame(id=1, alpha=np.pi / 2, beta=0.0, semi_angle=0.02), **aligned)
    about_y = experiment_with(Frame(id=1, alpha=0.0, beta=np.pi / 2, semi_angle=0.02), **aligned)
    y_to_z = frame_vectors(about_x, about_x.frames[0], np.array([[0, 1, 0]]))
    z_to_x = frame_vectors(about_y, about_y.frames[0], np.array([[0, 0, 1]]))
    np.testing.assert_allclose(y_to_z, [[0, 0, 1]], atol=1e-15)
    np.testing.assert_allclose(z_to_x, [[1, 0, 0]], atol=1e-15)


@given(angles, angles)
@settings(max_examples=30)
def test_rotate_is_x_after_y_and_batches(x, y):
    g = frame_vectors(experiment_with(), experiment_with().frames[0], HKL)
    expected = g @ (plain_reference.turn((1, 0, 0), x) @ plain_reference.turn((0, 1, 0), y)).T
    np.testing.assert_allclose(rotate(g, x, y), expected, atol=1e-12)
    batch = rotate(g, np.array([0.0, x]), np.array([0.3, y]))
    assert batch.shape == (2, len(HKL), 3)
    np.testing.assert_allclose(batch[1], expected, atol=1e-12)
    np.testing.assert_allclose(batch[0], rotate(g, 0.0, 0.3), atol=1e-15)


def test_excitation_error_is_what_the_definition_says():
    g = frame_vectors(experiment_with(), experiment_with().frames[0], HKL)
    for wavenumber in (5.0, 40.0):
        expected = [plain_reference.excitation_error(v, wavenumber) for v in g]
        # K² cancels in the twin: rounding of K²/(2K)
        np.testing.assert_allclose(excitation_error(g, wavenumber), expected, atol=1e-13 * wavenumber)


def test_excitation_error_is_positive_inside_the_ewald_sphere():
    inside = np.array([0.5, 0.0, 0.1])  # towards the centre of the sphere, which stands at −k = +z
    assert excitation_error(inside, 40.0) > 0.0
    assert np.linalg.norm(inside + np.array([0.0, 0.0, -40.0])) < 40.0
    assert excitation_error(inside * [1, 1, -1], 40.0) < 0.0


@given(angles)
@settings(max_examples=20)
def test_omega_turns_the_image_only(omega):
    frame = Frame(id=1, alpha=0.4, beta=-0.2, semi_angle=0.02)
    plain, turned = experiment_with(frame), experiment_with(replace(frame, omega=omega))
    # that frame_vectors leaves omega out, and that a turn about the beam does not change S_g, is one convention
    g = frame_vectors(plain, plain.frames[0], HKL)
    np.testing.assert_array_equal(frame_vectors(turned, turned.frames[0], HKL), g)
    about_beam = g @ plain_reference.turn((0, 0, 1), omega).T
    np.testing.assert_allclose(excitation_error(about_beam, 40.0), excitation_error(g, 40.0), atol=1e-12)


@pytest.mark.parametrize("geometry", ScanGeometry)
def test_the_lever_is_the_greatest_slope_of_s_along_the_scan(geometry):
    experiment = experiment_with(geometry=geometry)
    g = frame_vectors(experiment, experiment.frames[0], HKL)
    g = g - np.outer(g[:, 2], [0, 0, 1])  # as for beams that are near the sphere: g_z ≈ 0
    step = 1e-6
    if geometry is ScanGeometry.ROTATION:
        slopes = [(excitation_error(rotate(g, step, 0.0), 40.0) - excitation_error(rotate(g, -step, 0.0), 40.0))]
    else:
        phi = np.linspace(0.0, 2 * np.pi, 721)
        up = excitation_error(rotate(g, step * np.cos(phi), step * np.sin(phi)), 40.0)
        slopes = up - excitation_error(rotate(g, -step * np.cos(phi), -step * np.sin(phi)), 40.0)
    steepest = np.max(np.abs(slopes), axis=0) / (2 * step)
    np.testing.assert_allclose(scan_lever(experiment, g), steepest, rtol=2e-5, atol=1e-9)  # half a degree off: 1 − cos


def test_another_cell_keeps_the_orientation():
    first = experiment_with()
    second = replace(first, cell=(5.2, 6.2, 7.3, 88.0, 97.0, 104.0))
    rotation = ub_matrix(second) @ np.linalg.inv(orthogonalisation_matrix(second.cell))
    np.testing.assert_allclose(rotation, first.orientation, atol=1e-12)


def test_a_reflected_orientation_is_refused():
    """It would be the other hand of the crystal."""
    with pytest.raises(ValueError, match="rotation"):
        experiment_with(orientation=np.diag([1.0, 1.0, -1.0]))


@pytest.mark.real_data
def test_excitation_errors_of_measured_rocking_curves_of_silicon(data_dir):
    rows = []
    for line in (data_dir / "silicon" / "reflprofiles_strong.dat").read_text().splitlines():
        numbers = re.findall(r"-?\d+\.?\d*", line.replace("#", " # "))
        if "#" not in line and len(numbers) == 11:
            rows.append([float(numbers[n]) for n in (0, 1, 2, 3, 4, 9)])
    rows = np.array(rows)
    assert len(rows) > 16_900
    cell = (5.42196, 5.42196, 5.42196, 90.0, 90.0, 90.0)
    ub = np.array([[0.17985, 0.03374, 0.02309], [0.04014, -0.12581, -0.12875], [-0.00780, 0.13057, -0.13002]])
    left, _, right = np.linalg.svd(ub @ np.linalg.inv(orthogonalisation_matrix(cell)))
    orientation = left @ right  # the polar factor
    experiment = experiment_with(orientation=orientation, cell=cell, wavelength=0.02508)
    difference = np.empty(len(rows))
    for number in np.unique(rows[:, 5]):
        mine = rows[:, 5] == number
        alpha = np.radians(-69.795 + 0.10263 * (number - 3))
        frame = Frame(id=int(number), alpha=alpha, beta=0.0, semi_angle=0.001)
        g = frame_vectors(experiment, frame, rows[mine, :3].astype(np.int64))
        np.testing.assert_allclose(np.linalg.norm(g, axis=1), rows[mine, 3], atol=2e-3)
        difference[mine] = np.abs(excitation_error(g, 1.0 / experiment.wavelength) - rows[mine, 4])
    assert np.median(difference) <= 1e-4  # Å⁻¹; the file gives UB to five digits
