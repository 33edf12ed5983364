"""Cells of models and data that differ, other settings of a lattice, and wrong indices: named, and mended when asked."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cctbx import crystal, sgtbx, uctbx, xray
from hypothesis import given, settings
from hypothesis import strategies as st
from libtbx.utils import Sorry
from scipy.spatial.transform import Rotation

from edtbx.cell import CELL_TOLERANCE, CellMisfit, lattice_maps, transformed_cell
from edtbx.measurement.experiment import ScanGeometry
from edtbx.measurement.geometry import (
    frame_vectors,
    measured_ub,
    orthogonalisation_matrix,
    polar_factors,
    ub_matrix,
    with_cell,
)
from edtbx.measurement.selection import SelectionRules
from edtbx_cctbx import read_experiment, read_model, reindexed, set_electron_form_factors
from edtbx_cctbx.indexing.diagnosis import check_indexing, diagnose
from edtbx_cctbx.indexing.model_cell import cell_report, check_cell, with_model_cell
from edtbx_cctbx.indexing.operators import index_matrix, operator_text, operators_to_model
from edtbx_cctbx.io.cif_pets_block import CELL_TAGS
from edtbx_cctbx.programs import compare
from edtbx_cctbx.targets.selected_rows import select_rows

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODEL, DATA = EXAMPLES / "example.cif", EXAMPLES / "example.cif_pets"


@pytest.fixture(scope="module")
def structure():
    return read_model(MODEL, log=io.StringIO())


@pytest.fixture(scope="module")
def experiment():
    return read_experiment(DATA)


def turn(one, other) -> float:
    """Degrees between two orientations."""
    return float(np.degrees(Rotation.from_matrix(one.orientation @ other.orientation.T).magnitude()))


def distortion(stretches, axes: int = 3) -> np.ndarray:
    """A symmetric matrix with these singular values, along axes that are not those of the lab."""
    r = Rotation.random(rng=np.random.default_rng(axes)).as_matrix()
    return r @ np.diag(stretches) @ r.T


def with_ub(path: Path, ub: np.ndarray, cell=None, negate: bool = False) -> Path:
    """The example with another UB matrix, another cell, or all indices negated."""
    text = DATA.read_text()
    for i, j in np.ndindex(3, 3):
        tag = f"_diffrn_orient_matrix_UB_{i + 1}{j + 1}"
        text = re.sub(rf"^{tag} .*$", f"{tag} {ub[i, j]:.12f}", text, flags=re.MULTILINE)
    for tag, value in zip(CELL_TAGS, cell or (), strict=False):
        text = re.sub(rf"^{tag} .*$", f"{tag} {value:.6f}", text, flags=re.MULTILINE)
    if negate:
        head, _, rows = text.rpartition("_refln_zone_axis_id\n")
        changed = [" ".join([*(str(-int(n)) for n in w[:3]), *w[3:]]) for w in map(str.split, rows.splitlines()) if w]
        text = head + "_refln_zone_axis_id\n" + "\n".join(changed) + "\n"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "stretches", [(1.055, 1.055, 1.055), (0.95, 0.95, 0.95), (1.04, 1.0, 0.97), (1.05, 1.03, 1.01)]
)
@pytest.mark.parametrize("cell_is", ["of the crystal", "of the UB matrix"])
def test_a_distorted_ub_has_the_orientation_of_the_true_one(tmp_path, structure, experiment, stretches, cell_is):
    true = with_model_cell(experiment, structure)
    ub = distortion(stretches) @ ub_matrix(true)
    metric = np.linalg.inv(ub.T @ ub)
    lengths = np.sqrt(np.diag(metric))
    cosines = [metric[1, 2] / (lengths[1] * lengths[2]), metric[0, 2] / (lengths[0] * lengths[2])]
    cosines += [metric[0, 1] / (lengths[0] * lengths[1])]
    cell = (*lengths, *np.degrees(np.arccos(cosines))) if cell_is == "of the UB matrix" else None
    read = read_experiment(with_ub(tmp_path / "distorted.cif_pets", ub, cell))
    changed = with_model_cell(read, structure)
    assert changed.cell == structure.unit_cell().parameters()
    assert turn(changed, true) < 1e-4
    assert changed.geometry is ScanGeometry.ROTATION  # with the cell of the file it looks like a precession
    np.testing.assert_array_equal(
        select_rows(changed, structure, SelectionRules()).used,
        select_rows(true, structure, SelectionRules()).used,
    )
    np.testing.assert_allclose(cell_report(changed)["singular_values"], sorted(stretches, reverse=True), atol=1e-6)
    assert any("singular values of UB·B⁻¹ " + f"{max(stretches):.4f}" in note for note in changed.notes)
    assert with_model_cell(changed, structure) is changed


def test_no_note_where_all_cells_agree(structure, experiment):
    changed = with_model_cell(experiment, structure)
    assert changed.notes == experiment.notes
    np.testing.assert_allclose(changed.orientation, experiment.orientation, atol=1e-9)
    assert cell_report(changed)["used"] == "model"
    assert cell_report(experiment)["used"] == "data"


def test_the_polar_factor_is_redone_for_every_cell(experiment):
    """From the measured matrix, and not from what the cell before made of it."""
    ub = distortion((1.05, 1.0, 0.97)) @ measured_ub(experiment)
    strained = replace(experiment, ub=ub)
    there = with_cell(strained, (6.1, 12.0, 5.9, 90.0, 90.5, 89.5))
    assert turn(there, experiment) > 0.05
    back = with_cell(there, experiment.cell)
    assert turn(back, experiment) < 1e-5
    assert back.measured_cell == experiment.cell
    assert back.ub is ub


@pytest.mark.parametrize("stretches", [(1.08, 1.0, 1.0), (0.92, 0.92, 0.92), (1.06, 0.94, 1.0)])
def test_too_large_a_distortion_is_refused_unless_asked_for(tmp_path, structure, experiment, stretches):
    ub = distortion(stretches) @ measured_ub(experiment)
    path = with_ub(tmp_path / "far.cif_pets", ub)
    with pytest.raises(Sorry, match=r"far\.cif_pets: .*do not belong together.*input\.cell_tolerance"):
        read_experiment(path)
    with pytest.raises(Sorry, match="singular values") as caught:
        with_model_cell(replace(experiment, ub=ub), structure)
    needed = float(re.search(r"input.cell_tolerance=([0-9.]+) goes on", str(caught.value))[1])
    changed = with_model_cell(read_experiment(path, cell_tolerance=needed), structure, needed)
    assert turn(changed, experiment) < 1e-4
    with pytest.raises(Sorry, match="cells of model and UB matrix"):
        check_cell(structure, experiment=replace(experiment, ub=ub), tolerance=needed - 0.012)


@pytest.mark.parametrize("operator", ["k,l,h", "l,k,-h", "-h,k,-l", "h,k+h,l", "h+k,h-k,-l"])
def test_another_setting_is_named_and_taken(structure, experiment, operator):
    """The last one is a centred cell."""
    elsewhere = reindexed(experiment, operator)
    np.testing.assert_allclose(
        elsewhere.cell, uctbx.unit_cell(experiment.cell).change_basis(sgtbx.change_of_basis_op(operator)).parameters()
    )
    for frame in experiment.frames:
        rows = experiment.reflections.frame_id == frame.id
        np.testing.assert_allclose(
            frame_vectors(elsewhere, frame, elsewhere.reflections.hkl[rows]),
            frame_vectors(experiment, frame, experiment.reflections.hkl[rows]),
            atol=1e-9,
        )
    if operator in ("l,k,-h", "-h,k,-l"):  # a and c differ by 4 % only: l k -h has a cell that may be
        check_cell(structure, elsewhere)
    else:
        with pytest.raises(Sorry, match="another setting of this lattice") as caught:
            check_cell(structure, elsewhere)
        elsewhere = reindexed(elsewhere, re.search(r"input.reindex=(\S+) brings", str(caught.value))[1])
    put_in = check_indexing(with_model_cell(elsewhere, structure), structure)
    assert len(put_in.warnings) == (operator == "l,k,-h")
    if put_in.warnings:
        elsewhere = reindexed(elsewhere, re.search(r"input.reindex=(\S+)$", put_in.warnings[0])[1])
        put_in = check_indexing(with_model_cell(elsewhere, structure), structure)
    assert diagnose(put_in, structure).as_indexed.r < 0.15


def test_negated_indices_are_told_and_negated_back(tmp_path, structure, experiment):
    read = with_model_cell(
        read_experiment(with_ub(tmp_path / "x.cif_pets", ub_matrix(experiment), negate=True)), structure
    )
    with pytest.raises(Sorry, match=r"x\.cif_pets: hardly any .*input\.reindex=-h,-k,-l$") as caught:
        check_indexing(read, structure)
    assert "R about 0.1" in str(caught.value)
    with pytest.raises(Sorry, match=r"no reflection is left .*input\.reindex=-h,-k,-l$"):
        select_rows(read.select_frames([1, 2]), structure, SelectionRules())
    mended = reindexed(read, "-h,-k,-l")
    assert "the UB matrix stays" in mended.notes[-1]
    np.testing.assert_array_equal(mended.reflections.hkl, experiment.reflections.hkl)
    np.testing.assert_allclose(mended.orientation, experiment.orientation, atol=1e-7)
    assert check_indexing(mended, structure).warnings == ()


def test_indices_in_another_order_are_told(structure, experiment):
    """The list alone: the cell tells nothing, and no rotation of an orthorhombic lattice exchanges h and k."""
    rows = experiment.reflections
    mixed = replace(experiment, reflections=replace(rows, hkl=rows.hkl[:, [1, 0, 2]]))
    with pytest.raises(Sorry, match=r"input\.reindex=k,h,l$"):
        check_indexing(with_model_cell(mixed, structure), structure)
    np.testing.assert_array_equal(reindexed(mixed, "k,h,l").reflections.hkl, rows.hkl)


def test_frames_that_do_not_belong_to_the_indices_are_told(structure, experiment):
    turned = replace(experiment, frames=tuple(replace(f, alpha=f.alpha + 0.2) for f in experiment.frames))
    (warning,) = check_indexing(with_model_cell(turned, structure), structure).warnings
    assert re.search(r"only \d+% of the rows pass the Ewald sphere .* no other indexing changes that", warning)


def test_a_model_whose_cell_is_none_of_the_data_is_refused(experiment):
    long = xray.structure(crystal_symmetry=crystal.symmetry((6.032, 12.343, 57840.0, 90, 90, 90), "P 21 21 21"))
    with pytest.raises(Sorry, match=r"the cell of the model, 6\.032 .* and the data: the UB matrix is singular"):
        with_model_cell(experiment, long)


@pytest.mark.real_data
def test_some_frames_do_not_overrule_what_the_file_tells_of_the_scan(data_dir):
    """A few frames of quartz, apart from each other, look like those of a precession."""
    experiment = read_experiment(data_dir / "quartz" / "quartz.cif_pets")
    model = read_model(data_dir / "quartz" / "quartz_start.cif")
    some = experiment.select_frames([frame.id for frame in experiment.frames][9::16])
    assert with_model_cell(some, model).geometry is ScanGeometry.ROTATION


def test_an_orientation_that_no_indexing_mends_is_told_where_no_row_is_left(tmp_path, structure, experiment):
    turned = Rotation.from_euler("z", 37.0, degrees=True).as_matrix() @ ub_matrix(experiment)
    astray = with_model_cell(read_experiment(with_ub(tmp_path / "x.cif_pets", turned)), structure)
    with pytest.raises(Sorry, match=r"no reflection is left .*angles of the frames belong together\?$"):
        select_rows(astray.select_frames([1]), structure, SelectionRules())


@pytest.mark.parametrize("group", ["I 2 2 2", "F 2 2 2", "C 2 2 21"])
def test_a_centring_that_the_data_do_not_have_is_refused(structure, experiment, group):
    centred = structure.customized_copy(space_group_info=sgtbx.space_group_info(group))
    set_electron_form_factors(centred)
    with pytest.raises(Sorry, match=rf"centring of the model \({group}\) forbids, \d+ are observed"):
        select_rows(with_model_cell(experiment, centred), centred, SelectionRules())


def test_weak_reflections_that_a_centring_forbids_are_left_out(structure, experiment):
    centred = structure.customized_copy(space_group_info=sgtbx.space_group_info("C 2 2 21"))
    set_electron_form_factors(centred)
    rows = experiment.reflections
    forbidden = (rows.hkl[:, 0] + rows.hkl[:, 1]) % 2 == 1
    noise = np.where(forbidden, np.where(np.arange(len(rows)) % 10 == 0, 4.0, 1.0) * rows.sigma, rows.intensity)
    weak = with_model_cell(replace(experiment, reflections=replace(rows, intensity=noise)), centred)
    selection = select_rows(weak, centred, SelectionRules())
    assert not np.any(selection.used & forbidden)
    assert selection.used.any()


def test_indices_that_fit_are_not_negated(experiment):
    with pytest.raises(Sorry, match=r"right-handed UB matrix left-handed.*model\.invert=True"):
        reindexed(experiment, "-h,-k,-l")
    assert reindexed(experiment, "h,k,l") is experiment


def test_a_left_handed_ub_is_named_and_turned_with_its_indices(tmp_path, structure, experiment):
    path = with_ub(tmp_path / "left.cif_pets", -ub_matrix(experiment), negate=True)
    with pytest.raises(Sorry, match=r"left-handed.*input\.reindex=-h,-k,-l"):
        read_experiment(path)
    read = read_experiment(path, reindex="-h,-k,-l")
    np.testing.assert_array_equal(read.reflections.hkl, experiment.reflections.hkl)
    np.testing.assert_allclose(read.orientation, experiment.orientation, atol=1e-7)
    assert check_indexing(with_model_cell(read, structure), structure).warnings == ()


@pytest.mark.parametrize("operator", ["", "h", "h,k", "a,b,c", "x,y,z", "h,k,h", "h,k,0", "h,k,l+1", "h;k;l"])
def test_what_is_no_operator_is_refused(experiment, operator):
    with pytest.raises(Sorry, match="operator such as") as caught:
        reindexed(experiment, operator)
    assert len(str(caught.value).splitlines()) == 1


def test_an_operator_that_makes_fractions_is_refused(experiment):
    with pytest.raises(Sorry, match="no whole indices of"):
        reindexed(experiment, "1/2*h+1/2*k,1/2*h-1/2*k,l")


@given(seed=st.integers(0, 2**32 - 1), entries=st.lists(st.integers(-1, 1), min_size=9, max_size=9))
@settings(max_examples=60, deadline=None)
def test_operators_are_written_as_cctbx_reads_them(seed, entries):
    matrix = np.array(entries, dtype=float).reshape(3, 3)
    if abs(abs(np.linalg.det(matrix)) - 1.0) > 1e-6:
        return
    np.testing.assert_array_equal(index_matrix(operator_text(matrix)), matrix)
    hkl = tuple(int(n) for n in np.random.default_rng(seed).integers(-9, 9, 3))
    assert tuple(np.rint(matrix @ hkl).astype(int)) == sgtbx.change_of_basis_op(operator_text(matrix)).apply(hkl)


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ((5.0, 6.0, 7.0, 82.0, 97.0, 101.0), 1),
        ((5.0, 6.0, 7.0, 90.0, 97.0, 90.0), 2),
        ((5.0, 6.0, 7.0, 90.0, 90.0, 90.0), 4),
        ((5.0, 5.0, 7.0, 90.0, 90.0, 90.0), 8),
        ((5.0, 5.0, 7.0, 90.0, 90.0, 120.0), 12),
        ((5.0, 5.0, 5.0, 90.0, 90.0, 90.0), 24),
        ((5.0, 5.0, 5.0, 75.0, 75.0, 75.0), 6),
    ],
)
def test_maps_of_a_lattice_onto_itself_are_its_rotations(cell, number):
    maps = lattice_maps(cell, cell, 0.02)
    assert len(maps) == number
    np.testing.assert_array_equal(maps[0], np.eye(3))
    for matrix in maps:
        assert round(np.linalg.det(matrix)) == 1
        assert CellMisfit.between(transformed_cell(cell, matrix.astype(float)), cell).within(0.02)


def test_a_primitive_cell_is_brought_to_the_centred_one_of_a_model():
    symmetry = uctbx.unit_cell((10.1, 7.2, 8.3, 90, 103, 90))
    group = sgtbx.space_group_info("C 1 2 1").group()
    reduced = symmetry.change_basis(group.info().change_of_basis_op_to_primitive_setting()).niggli_cell().parameters()
    strained = tuple(length * (1.0 + 0.01 * n) for n, length in enumerate(reduced[:3])) + reduced[3:]
    best = operators_to_model(strained, symmetry.parameters(), group, CELL_TOLERANCE)[0]
    assert round(np.linalg.det(best)) == 2
    assert CellMisfit.between(transformed_cell(strained, best), symmetry.parameters()).within(0.03)


def test_polar_factors_refuse_what_is_no_ub(experiment):
    b = orthogonalisation_matrix(experiment.cell)
    with pytest.raises(ValueError, match="singular"):
        polar_factors(np.ones((3, 3)), experiment.cell)
    with pytest.raises(ValueError, match="left-handed"):
        polar_factors(-experiment.orientation @ b, experiment.cell)


def test_programs_say_which_cell_and_what_is_doubtful(tmp_path, capsys, structure, experiment):
    """A wrong one of two settings that both have a cell near enough: warned of at start and end, and in JSON."""
    other = reindexed(experiment, "l,k,-h")
    path = with_ub(tmp_path / "other.cif_pets", measured_ub(other), other.cell)
    head, _, _ = path.read_text().rpartition("_refln_zone_axis_id\n")
    rows = other.reflections
    lines = [
        f"{h} {k} {l} {i!r} {s!r} {n}"
        for (h, k, l), i, s, n in zip(
            rows.hkl.tolist(), rows.intensity.tolist(), rows.sigma.tolist(), rows.frame_id.tolist(), strict=True
        )
    ]
    path.write_text(head + "_refln_zone_axis_id\n" + "\n".join(lines) + "\n")
    compare.run([str(MODEL), str(path), "frames.last=2", "solver.name=kinematical", f"output.prefix={tmp_path / 'x'}"])
    said = capsys.readouterr().out
    assert "that of the model" in said
    summary = json.loads((tmp_path / "x.json").read_text())
    assert len(summary["warnings"]) == 1
    named = re.search(r"input.reindex=(\S+)$", summary["warnings"][0])[1]
    assert named in ("l,k,-h", "-l,k,h", "-l,-k,-h", "l,-k,h")
    assert said.count("Warning: another indexing fits better") == 2
    assert summary["kinematical"]["r_obs"] > 0.3
    assert summary["cell"]["used"] == "model"
    np.testing.assert_allclose(summary["cell"]["model"], structure.unit_cell().parameters())
    np.testing.assert_allclose(summary["cell"]["data"], other.cell, atol=1e-5)
    assert len(summary["cell"]["singular_values"]) == 3
    compare.run(
        [
            *(str(MODEL), str(path), "frames.last=2", "solver.name=kinematical", f"input.reindex={named}"),
            f"output.prefix={tmp_path / 'y'}",
        ]
    )
    summary = json.loads((tmp_path / "y.json").read_text())
    assert summary["warnings"] == []
    assert summary["kinematical"]["r_obs"] < 0.12


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("abiraterone/abiraterone.cif", "abiraterone/abiraterone.cif_pets"),
        ("albite/albite_jana.cif", "albite/albite.cif_pets"),
        ("cspbbr3/cspbbr3.cif", "cspbbr3/cspbbr3.cif_pets"),
        ("paracetamol/paracetamol.cif", "paracetamol/paracetamol.cif_pets"),
        ("quartz/quartz_start.cif", "quartz/quartz.cif_pets"),
        ("quartz/quartz_start.cif", "quartz_dials/dials_dyn.cif_pets"),
        ("urea/urea_jana_model.cif", "urea/urea.cif_pets"),
    ],
)
def test_indices_of_measured_data_are_told_right_from_wrong(data_dir, model, data):
    structure = read_model(data_dir / model, log=io.StringIO())
    set_electron_form_factors(structure, log=io.StringIO())
    right = with_model_cell(read_experiment(data_dir / data), structure)
    assert check_indexing(right, structure).warnings == ()
    assert diagnose(right, structure).as_indexed.r < 0.25
    negated = replace(right, reflections=replace(right.reflections, hkl=-right.reflections.hkl))
    assert diagnose(negated, structure).advice.endswith("input.reindex=-h,-k,-l")
    assert "the UB matrix stays" in reindexed(negated, "-h,-k,-l").notes[-1]


@pytest.mark.real_data
@pytest.mark.parametrize("data", ["quartz/quartz.cif_pets", "quartz_dials/dials_dyn.cif_pets"])
def test_quartz_indexed_as_the_lattice_allows_and_the_crystal_does_not(data_dir, data):
    structure = read_model(data_dir / "quartz/quartz_start.cif", log=io.StringIO())
    set_electron_form_factors(structure, log=io.StringIO())
    wrong = reindexed(read_experiment(data_dir / data), "-h,-k,l")
    assert "indices and UB matrix together" in wrong.notes[-1]
    wrong = check_indexing(with_model_cell(wrong, structure), structure)
    assert wrong.warnings[0].endswith("input.reindex=-h,-k,l")
    back = with_model_cell(reindexed(read_experiment(data_dir / data), "-h,-k,l"), structure)
    assert check_indexing(reindexed(back, "-h,-k,l"), structure).warnings == ()
