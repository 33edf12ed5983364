"""Reading and writing .cif_pets files."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cctbx import crystal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libtbx.utils import Sorry
from scipy.spatial.transform import Rotation

from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.measurement.geometry import excitation_error, frame_vectors, orthogonalisation_matrix
from edtbx.measurement.selection import SelectionRules
from edtbx_cctbx.indexing.diagnosis import check_indexing
from edtbx_cctbx.indexing.model_cell import with_model_cell
from edtbx_cctbx.io.cif_pets import experiment_as_miller_array, read_experiment, write_experiment, zone_axis
from edtbx_cctbx.model_files.structures import read_model
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.targets.selected_rows import select_rows

PETS_FILES = (
    "albite/albite.cif_pets",
    "cspbbr3/cspbbr3.cif_pets",
    "paracetamol/paracetamol.cif_pets",
    "quartz/quartz.cif_pets",
    "quartz_dials/dials_dyn.cif_pets",
    "urea/urea.cif_pets",
)


def some_experiment(
    seed: int = 0, cell=(5.1, 6.2, 7.3, 88.0, 97.0, 104.0), geometry: ScanGeometry = ScanGeometry.ROTATION
) -> Experiment:
    rng = np.random.default_rng(seed)
    frames = tuple(
        Frame(
            id=3 * n + 1,
            alpha=rng.uniform(-1, 1),
            beta=rng.uniform(-0.02, 0.02),
            semi_angle=rng.uniform(0.005, 0.05),
            omega=rng.uniform(-3, 3),
            scale=rng.uniform(0.5, 2),
        )
        for n in range(4)
    )
    hkl = rng.integers(-120, 120, (12, 3))
    hkl[np.all(hkl == 0, axis=1)] = 1
    return Experiment(
        wavelength=0.0251,
        cell=cell,
        orientation=Rotation.random(rng=rng).as_matrix(),
        geometry=geometry,
        frames=frames,
        reflections=Reflections(
            hkl=hkl,
            intensity=rng.normal(0, 1e4, 12),
            sigma=rng.uniform(0.1, 1e3, 12),
            frame_id=rng.choice([frame.id for frame in frames], 12),
        ),
    )


def written(tmp_path: Path, experiment: Experiment | None = None) -> str:
    path = tmp_path / "good.cif_pets"
    write_experiment(path, experiment or some_experiment())
    return path.read_text()


def reread(tmp_path: Path, text: str | bytes, **kwargs) -> Experiment:
    path = tmp_path / "changed.cif_pets"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_experiment(path, **kwargs)


@st.composite
def cells(draw):
    lengths = [draw(st.floats(2.0, 300.0)) for _ in range(3)]
    angles = [draw(st.floats(75.0, 110.0)) for _ in range(3)]
    return (*lengths, *angles)


@given(seed=st.integers(0, 2**32 - 1), cell=cells(), geometry=st.sampled_from(ScanGeometry))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(tmp_path, seed, cell, geometry):
    experiment = some_experiment(seed, cell, geometry)
    back = reread(tmp_path, written(tmp_path, experiment))
    assert back.geometry is geometry
    assert back.wavelength == experiment.wavelength
    np.testing.assert_allclose(back.cell, experiment.cell, rtol=1e-10)
    np.testing.assert_allclose(back.orientation, experiment.orientation, atol=1e-8)  # 12 digits in UB
    for one, other in zip(back.frames, experiment.frames, strict=True):
        assert one.id == other.id
        for name in ("alpha", "beta", "semi_angle", "omega", "scale"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-10, abs=1e-12)
    np.testing.assert_array_equal(back.reflections.hkl, experiment.reflections.hkl)
    np.testing.assert_array_equal(back.reflections.frame_id, experiment.reflections.frame_id)
    np.testing.assert_allclose(back.reflections.intensity, experiment.reflections.intensity, rtol=1e-10)
    np.testing.assert_allclose(back.reflections.sigma, experiment.reflections.sigma, rtol=1e-10)


@given(data=st.binary(max_size=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_in_one_line(tmp_path, data):
    with pytest.raises(Sorry) as caught:
        reread(tmp_path, data)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("part", np.linspace(0.02, 0.97, 40))
def test_a_truncated_file_is_refused(tmp_path, part):
    text = written(tmp_path)
    cut = text[: int(part * len(text))].rstrip().rpartition(" ")[0]
    in_reflections = cut.count("\n") > text[: text.index("_refln_zone_axis_id")].count("\n")
    if in_reflections and len(cut.splitlines()[-1].split()) in (0, 6):
        pytest.skip("cut between two rows: nothing shows that rows are missing")
    with pytest.raises(Sorry) as caught:
        reread(tmp_path, cut)
    assert len(str(caught.value).splitlines()) == 1


def without(tag):
    def change(text: str) -> str:
        lines = [line for line in text.splitlines() if not line.startswith(tag)]
        assert len(lines) < len(text.splitlines())
        return "\n".join(lines) + "\n"

    return change


def valued(tag, value):
    def change(text: str) -> str:
        return without(tag)(text).replace("data_pets\n", f"data_pets\n{tag} {value}\n")

    return change


def without_column(tag, number):
    return lambda text: _drop_column(text, tag, number)


def _drop_column(text: str, tag: str, number: int) -> str:
    lines, out, inside = text.splitlines(), [], False
    for line in lines:
        if line == tag:
            inside = True
            continue
        if inside and (not line or line == "loop_"):
            inside = False
        if inside and not line.startswith("_"):
            words = line.split()
            line = " ".join(words[:number] + words[number + 1 :])
        out.append(line)
    return "\n".join(out) + "\n"


UB = "_diffrn_orient_matrix_UB_"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("_cell_length_b"), "_cell_length_b is missing"),
        (without("_diffrn_radiation_wavelength"), "_diffrn_radiation_wavelength is missing"),
        (without(f"{UB}11"), "no orientation matrix"),
        (without(f"{UB}23"), f"{UB}23 is missing"),
        (valued("_cell_length_a", "nan"), "must be a number, got 'nan'"),
        (valued("_cell_length_a", "0"), "cell lengths must be > 0"),
        (valued("_cell_angle_beta", "180"), "between 0 and 180"),
        (valued("_cell_angle_beta", "10"), "do not span a volume"),
        (valued("_cell_length_a", "?"), "must be a number"),
        (valued("_cell_length_a", "5.7"), "do not belong together"),
        (valued("_cell_angle_gamma", "110"), "do not belong together"),
        (valued("_diffrn_radiation_wavelength", "inf"), "must be a number"),
        (valued("_diffrn_radiation_wavelength", "0"), "fast electrons"),
        (valued("_diffrn_radiation_wavelength", "2.51"), "fast electrons"),
        (valued(f"{UB}12", "nan"), "must be a number"),
        (without_column("_diffrn_zone_axis_precession_angle", 4), "_diffrn_zone_axis_precession_angle is missing"),
        (without_column("_diffrn_zone_axis_alpha", 5), "_diffrn_zone_axis_alpha is missing"),
        (without_column("_refln_intensity_sigma", 4), "_refln_intensity_sigma is missing"),
        (without_column("_refln_zone_axis_id", 5), "_refln_zone_axis_id is missing"),
        (lambda text: text.rstrip() + "\n 1 1 1 10.0 1.0 77\n", "frame 77"),
        (lambda text: text.rstrip() + "\n 1 1 1.5 10.0 1.0 1\n", "whole numbers, got 1.5 in row 13"),
        (lambda text: text.rstrip() + "\n 1 1 x 10.0 1.0 1\n", "whole numbers"),
        (lambda text: text.rstrip() + "\n 1 1 1 10.0 1.0\n", "not a whole"),
        (lambda text: text.replace("continuous rotation", "static"), "names no scan geometry"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, says):
    with pytest.raises(Sorry, match=r"changed\.cif_pets") as caught:
        reread(tmp_path, change(written(tmp_path)))
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("data", "says"), [(b"", "empty"), (b" \n\n", "empty"), (b"data_\x00\x01", "binary")])
def test_a_file_that_is_no_text_is_refused(tmp_path, data, says):
    with pytest.raises(Sorry, match=says):
        reread(tmp_path, data)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Sorry, match="No such file"):
        read_experiment(tmp_path / "none.cif_pets")
    with pytest.raises(Sorry, match="cannot read"):
        read_experiment(tmp_path)


def test_a_loop_header_at_the_end_does_not_kill_python(tmp_path):
    """iotbx's parser is a segmentation fault on such a text."""
    with pytest.raises(Sorry):
        reread(tmp_path, "data_a\nloop_\n_a\n_b\n")


def _with_ub(text: str, ub: np.ndarray) -> str:
    for i in range(3):
        for j in range(3):
            text = valued(f"{UB}{i + 1}{j + 1}", repr(float(ub[i, j])))(text)
    return text


def test_ub_must_be_right_handed_and_regular(tmp_path):
    experiment = some_experiment()
    text, b = written(tmp_path, experiment), orthogonalisation_matrix(experiment.cell)
    with pytest.raises(Sorry, match="left-handed"):
        reread(tmp_path, _with_ub(text, -experiment.orientation @ b))
    with pytest.raises(Sorry, match="singular"):
        reread(tmp_path, _with_ub(text, np.ones((3, 3))))


def test_a_strained_ub_gives_its_orientation_and_a_note(tmp_path):
    experiment = some_experiment()
    strained = experiment.orientation @ (1.01 * orthogonalisation_matrix(experiment.cell))
    back = reread(tmp_path, _with_ub(written(tmp_path, experiment), strained))
    np.testing.assert_allclose(back.orientation, experiment.orientation, atol=1e-9)
    assert any("0.99%" in note for note in back.notes)


def test_useless_rows_are_dropped_and_counted(tmp_path):
    text = written(tmp_path).rstrip()
    rows = [
        "1 1 1 10.0 0.0 1",
        "1 1 1 10.0 -2 1",
        "1 1 1 nan 1.0 1",
        "1 1 1 10 ? 1",
        "0 0 0 10 1 1",
        text.splitlines()[-1],
    ]
    back = reread(tmp_path, "\n".join([text, *rows]) + "\n")
    assert len(back.reflections) == 12
    dropped = [note for note in back.notes if "dropped" in note]
    assert [note.split()[0] for note in dropped] == ["2", "2", "1", "1"]


def column(text: str, first_tag: str, place: int, value: str, row: int | None = None) -> str:
    """The text with a value in one column of a loop, in one row or in all."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line == first_tag)
    start = next(n for n in range(start, len(lines)) if not lines[n].startswith("_"))
    for n in range(start, len(lines)):
        words = lines[n].split()
        if not words or words[0] == "loop_":
            break
        if row is None or n == start + row:
            words[place] = value.format(words[place])
            lines[n] = " ".join(words)
    return "\n".join(lines) + "\n"


ZONE, H = "_diffrn_zone_axis_id", "_refln_index_h"
WAVELENGTH = "_diffrn_radiation_wavelength"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (valued(WAVELENGTH, "2.51"), "a wavelength in pm, which is 0.0251 Å"),
        (valued(WAVELENGTH, "200"), "an energy of 200 keV, which is 0.02508 Å"),
        (valued(WAVELENGTH, "300000"), "an energy of 300 keV, which is 0.01969 Å"),
        (valued(WAVELENGTH, "0.71073"), "looks like that of X-rays"),
        (
            lambda text: column(text, ZONE, 5, "nan", 1),
            "frame 4: _diffrn_zone_axis_alpha must be an angle",
        ),
        (lambda text: column(text, ZONE, 4, "?", 2), "frame 7: _diffrn_zone_axis_precession_angle must be an angle"),
        (lambda text: column(text, ZONE, 4, "0", 0), "frame 1: the semi-angle must lie between 0 and 20"),
        (lambda text: column(column(text, ZONE, 4, "0.02"), ZONE, 5, "0.5"), "look like radians"),
        (lambda text: column(text, H, 0, "4711", 3), "_refln_index_h is 4711 in row 4"),
        (lambda text: column(text, H, 2, "-1e8", 0), "_refln_index_l is -100000000 in row 1"),
        (lambda text: column(text, H, 4, "0"), "12 of 12 rows dropped: with an s.u. that is not positive"),
        (lambda text: column(text, H, 3, "1,5"), "12 of 12 rows dropped: without a finite intensity"),
        (lambda text: column(text, H, 3, "1e300"), "12 of 12 rows dropped: with a number beyond all measure"),
        (lambda text: text.replace("_refln_index_k", "loop_\n_refln_index_k"), "cif_pets"),
        (lambda text: text.replace("_refln_zone_axis_id", "_refln_other"), "_refln_zone_axis_id is missing"),
        (lambda text: _kinematical(text), "is the kinematical file of PETS2"),
        (lambda text: without(UB)(_kinematical(text)), "usually *_dyn.cif_pets"),
    ],
)
def test_slips_of_units_and_other_mistakes_are_named(tmp_path, change, says):
    with pytest.raises(Sorry, match=r"changed\.cif_pets") as caught:
        reread(tmp_path, change(written(tmp_path)))
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def _kinematical(text: str) -> str:
    """One merged list, without frames."""
    head, _, rest = text.partition("loop_\n")
    return head + "loop_\n" + _drop_column(rest.partition("loop_\n")[2], "_refln_zone_axis_id", 5)


def test_a_wavelength_of_mega_electron_volts_is_doubted(tmp_path):
    back = reread(tmp_path, valued(WAVELENGTH, "0.00251")(written(tmp_path)))
    assert "is it in nm?" in back.warnings[0]
    assert reread(tmp_path, written(tmp_path)).warnings == ()


def test_intensities_may_have_their_su_in_brackets(tmp_path):
    experiment = some_experiment()
    back = reread(tmp_path, column(written(tmp_path, experiment), H, 3, "{}(12)"))
    np.testing.assert_allclose(back.reflections.intensity, experiment.reflections.intensity, rtol=1e-10)


WORDS = (
    *(
        "nan",
        "inf",
        "-inf",
        "?",
        ".",
        "0",
        "-0",
        "1e300",
        "-1e300",
        "1e-300",
        "1e400",
        "2147483648",
        "1.5",
        "abc",
        "1(2)",
    ),
    *(
        "1,5",
        "1D3",
        "0x10",
        "-1",
        "361",
        "180",
        "2.51",
        "200",
        "999",
        "1e5",
        "12345678901234567890",
        "0.01745",
        "1_0",
        "''",
    ),
)


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path, example, data):
    """One to three words of a file replaced or scaled, or whole columns; then all that follows up to selection."""
    text, structure = example
    lines = text.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(lines) - 1)))
        words = lines[at].split()
        if not words:
            continue
        place = data.draw(st.integers(0, len(words) - 1))
        value = data.draw(st.sampled_from([*WORDS, "*10", "*0.01", "*-1"]))
        for n in range(at, len(lines) if data.draw(st.booleans()) else at + 1):
            words = lines[n].split()
            if (len(words) > place and not words[0].startswith(("_", "loop_", "data_", ";"))) or (
                n == at and place == 1
            ):
                words[place] = _changed(words[place], value)
                lines[n] = " ".join(words)
    said = "one line"
    try:
        experiment = with_model_cell(reread(tmp_path, "\n".join(lines) + "\n"), structure)
        selection = select_rows(check_indexing(experiment, structure), structure, SelectionRules())
        assert np.all(np.isfinite(selection.s_g))
        assert np.all(np.isfinite(selection.rsg))
    except Sorry as error:
        said = str(error)
    assert len(said.splitlines()) == 1


def _changed(word: str, value: str) -> str:
    if not value.startswith("*"):
        return value
    try:
        return repr(float(value[1:]) * float(word))
    except ValueError:
        return word


@pytest.fixture(scope="module")
def example(repository):
    structure = read_model(repository / "examples" / "example.cif", log=io.StringIO())
    set_electron_form_factors(structure, log=io.StringIO())
    return (repository / "examples" / "example.cif_pets").read_text(), structure


def test_negative_intensities_stay(tmp_path):
    experiment = some_experiment()
    assert np.any(experiment.reflections.intensity < 0)
    back = reread(tmp_path, written(tmp_path, experiment))
    assert np.sum(back.reflections.intensity < 0) == np.sum(experiment.reflections.intensity < 0)


def test_other_spellings_are_read(tmp_path):
    text = written(tmp_path).replace("_cell_length_a 5.1", "_cell_length_a 5.1(80)")
    text = text.replace("_diffrn_measurement_details", "# Å, é\n_diffrn_reflns_reduction_process").replace("\n", "\r\n")
    assert reread(tmp_path, "\ufeff" + text).cell == some_experiment().cell
    structured = text.replace("data collection geometry: continuous rotation", "-").replace(
        "data_pets", "data_pets\r\n_diffrn_measurement_data_collection_geometry precession"
    )
    assert reread(tmp_path, structured).geometry is ScanGeometry.PRECESSION
    optional = _drop_column(
        _drop_column(text.replace("\r", ""), "_diffrn_zone_axis_scale", 8), "_diffrn_zone_axis_omega", 7
    )
    assert all(frame.scale == 1.0 and frame.omega == 0.0 for frame in reread(tmp_path, optional).frames)


def test_a_repeated_frame_counts_once_and_a_contradicting_one_is_refused(tmp_path):
    lines = written(tmp_path).splitlines()
    last = lines.index("_diffrn_zone_axis_scale") + 4
    back = reread(tmp_path, "\n".join([*lines[: last + 1], lines[last], *lines[last + 1 :]]) + "\n")
    assert len(back.frames) == 4
    assert any("listed twice" in note for note in back.notes)
    words = lines[last].split()
    other = " ".join([*words[:5], "3.14", *words[6:]])
    with pytest.raises(Sorry, match="listed twice with different angles"):
        reread(tmp_path, "\n".join([*lines[: last + 1], other, *lines[last + 1 :]]) + "\n")


def test_writing_leaves_the_old_file_when_it_fails(tmp_path):
    with pytest.raises(Sorry, match="cannot write"):
        write_experiment(tmp_path / "no_folder" / "x.cif_pets", some_experiment())
    (tmp_path / "folder").mkdir()
    with pytest.raises(Sorry, match="cannot write"):
        write_experiment(tmp_path / "folder", some_experiment())
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_miller_array_keeps_every_row_in_order():
    experiment = some_experiment()
    symmetry = crystal.symmetry(experiment.cell, space_group_symbol="P -1")
    for given_symmetry, number in ((None, 1), (symmetry, 2)):
        array, frames = experiment_as_miller_array(experiment, given_symmetry)
        assert array.space_group_info().type().number() == number
        assert array.is_xray_intensity_array()
        assert array.anomalous_flag()
        np.testing.assert_array_equal(np.array(list(array.indices())), experiment.reflections.hkl)
        np.testing.assert_array_equal(array.data().as_numpy_array(), experiment.reflections.intensity)
        np.testing.assert_array_equal(array.sigmas().as_numpy_array(), experiment.reflections.sigma)
        np.testing.assert_array_equal(frames.as_numpy_array(), experiment.reflections.frame_id)


def _listed_zone_axes(path: Path) -> np.ndarray:
    text = path.read_text(encoding="latin-1")
    rows = text.partition("_diffrn_zone_axis_scale")[2].partition("loop_")[0]
    return np.loadtxt(io.StringIO(rows))[:, 1:4]


@pytest.mark.real_data
@pytest.mark.parametrize("name", PETS_FILES)
def test_zone_axes_agree_with_those_of_the_files(data_dir, name):
    """PETS lists u v w along +z of our frame of reference: orientation, goniometer and their order are as it means."""
    experiment = read_experiment(data_dir / name)
    ours = np.array([zone_axis(experiment, frame) for frame in experiment.frames])
    # five digits in UB and uvw; the quartz UB is strained against its cell
    tolerance = 2e-3 if name.startswith("quartz/") else 2e-4
    ours, listed = (
        uvw / np.linalg.norm(uvw, axis=1, keepdims=True) for uvw in (ours, _listed_zone_axes(data_dir / name))
    )
    np.testing.assert_allclose(ours, listed, atol=tolerance)


@pytest.mark.real_data
@pytest.mark.parametrize("name", PETS_FILES)
@pytest.mark.parametrize(("hand", "near"), [(1.0, True), (-1.0, False)])
def test_listed_reflections_are_in_reach_of_their_frames(data_dir, name, hand, near):
    """|S_g| is about |g| semi and less; with the goniometer turning the other way it would be far more."""
    experiment = read_experiment(data_dir / name)
    reduced = []
    for frame in experiment.frames:
        hkl = experiment.reflections.hkl[experiment.reflections.frame_id == frame.id]
        g = frame_vectors(experiment, replace(frame, alpha=hand * frame.alpha), hkl)
        s_g = excitation_error(g, 1.0 / experiment.wavelength)
        reduced.append(np.abs(s_g) / (np.linalg.norm(g, axis=1) * frame.semi_angle))
    median = np.median(np.concatenate(reduced))
    assert median < 1.3 if near else median > 5.0


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "frames", "rows", "negative"),
    [
        (PETS_FILES[0], 59, 8615, 285),
        (PETS_FILES[1], 59, 32669, 4818),
        (PETS_FILES[2], 50, 38713, 11478),
        (PETS_FILES[3], 99, 6666, 798),
        (PETS_FILES[4], 99, 7952, 958),
        (PETS_FILES[5], 67, 8566, 452),
    ],
)
def test_real_files_are_read_whole_and_survive_writing(data_dir, tmp_path, name, frames, rows, negative):
    experiment = read_experiment(data_dir / name)
    assert (len(experiment.frames), len(experiment.reflections)) == (frames, rows)
    assert np.sum(experiment.reflections.intensity < 0) == negative
    assert not any("dropped" in note for note in experiment.notes)
    assert any("UB matrix" in note for note in experiment.notes) == name.startswith("quartz/")
    write_experiment(tmp_path / "again.cif_pets", experiment)
    again = read_experiment(tmp_path / "again.cif_pets")
    assert again.geometry is experiment.geometry
    np.testing.assert_allclose([f.alpha for f in again.frames], [f.alpha for f in experiment.frames], atol=1e-11)
    np.testing.assert_array_equal(again.reflections.intensity, experiment.reflections.intensity)
    np.testing.assert_allclose(again.orientation, experiment.orientation, atol=1e-9)


@pytest.mark.real_data
def test_the_data_overrule_the_header_and_the_user_both(data_dir):
    path = data_dir / "paracetamol/paracetamol.cif_pets"
    experiment = read_experiment(path)
    assert experiment.geometry is ScanGeometry.PRECESSION
    assert any("the header says rotation, but the data decide" in note for note in experiment.notes)
    asked = read_experiment(path, geometry=ScanGeometry.ROTATION)
    assert asked.geometry is ScanGeometry.ROTATION
    assert replace(asked, geometry=experiment.geometry, notes=()).frames == experiment.frames
