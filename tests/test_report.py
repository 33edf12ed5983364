"""The table and the files of a comparison, on a small synthetic one."""

import csv
import errno
import io
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import iotbx.cif
import numpy as np
import pytest
from cctbx import adptbx, crystal, xray
from cctbx.array_family import flex
from iotbx.cif import validation
from libtbx.utils import Sorry
from matplotlib.image import imread

from edtbx.intensities.nuisance import Nuisance
from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.measurement.observations import Observations
from edtbx.measurement.selection import Selection
from edtbx.measurement.statistics import statistics
from edtbx.solvers.block import Accuracy
from edtbx_cctbx.model_files.structures import read_model
from edtbx_cctbx.refinement.results import Comparison, SamplingReport, TheoryFit
from edtbx_cctbx.report.cif import _as_text, _bare_block
from edtbx_cctbx.report.csv_json import CSV_HEADER
from edtbx_cctbx.report.numbers import LAWS, frame_numbers, mean_thickness
from edtbx_cctbx.report.tables import show_comparison, show_structure, write_outputs

CELL = (5.12345, 6.0, 7.0, 90.0, 101.54321, 90.0)
STATISTICS = {"r_obs", "wr_obs", "r_all", "wr_all", "mr_obs", "r_frames", "n_obs", "n_all"}
KEYS = {
    *("solver", "kinematical", "dynamical", "thickness", "spread", "frames", "seconds", "versions", "parameters"),
    *("geometry", "left_out"),
}
ENDS = [".cif", ".json", "_reflections.csv", ".png"]


def structure() -> xray.structure:
    scatterers = flex.xray_scatterer(
        [
            xray.scatterer("C1", site=(0.1, 0.2, 0.3), u=0.01),
            xray.scatterer("O1", site=(0.6, 0.25, 0.123456), u=(1e-3, 1e-3, 1e-3, 0, 0, 0), occupancy=0.5),
        ]
    )
    symmetry = crystal.symmetry(CELL, space_group_symbol="P 1 21 1")
    return xray.structure(crystal_symmetry=symmetry, scatterers=scatterers)


def fit(observations: Observations, i_calc: np.ndarray, solver: str, r_of_thickness: np.ndarray) -> TheoryFit:
    measured = observations.reflections
    number = len(observations.frame_ids)
    return TheoryFit(
        solver=solver,
        structure=structure(),
        nuisance=Nuisance(
            shape="cylinder",
            thickness=1234.0,
            sigma=np.radians(0.0875),
            centres=np.radians(np.linspace(-0.05, 0.05, number)),
            scales=np.linspace(2.0, 3.0, number),
        ),
        observations=observations,
        i_calc=i_calc,
        statistics=statistics(measured.intensity, measured.sigma, i_calc, measured.frame_id, observations.unique),
        r_of_thickness=r_of_thickness,
        accuracy=SamplingReport(
            error=0.0831,
            misfit=1.4,
            kept=solver != "kinematical",
            waves=1559.5,
            beams=372.3,
            limits=Accuracy(s_max=0.06),
        ),
        r_of_spread=np.array([np.linspace(0.0, 0.2, 5), [0.3, 0.2, 0.15, 0.2, 0.3]]),
        forward_seconds=1.5,
    )


@pytest.fixture
def comparison() -> Comparison:
    rng = np.random.default_rng(5)
    per_frame, ids = 30, (7, 8, 11)
    frame_id = rng.permutation(np.repeat(ids, per_frame))  # the order of i_calc is that of the frames
    intensity = rng.gamma(0.7, 100.0, len(frame_id))
    intensity[:5] *= -0.1
    intensity[frame_id == 8] = 0.5  # a frame without observed rows: its R has no value
    experiment = Experiment(
        wavelength=0.0251,
        cell=CELL,
        orientation=np.eye(3),
        geometry=ScanGeometry.PRECESSION,
        frames=tuple(Frame(id=n, alpha=0.01 * n, beta=0.0, semi_angle=0.02) for n in ids),
        reflections=Reflections(
            hkl=rng.integers(-9, 10, (len(frame_id), 3)),
            intensity=intensity,
            sigma=np.full(len(frame_id), 4.0),
            frame_id=frame_id,
        ),
        source="/data/Łódź.cif_pets",
    )
    used = rng.random(len(frame_id)) < 0.7
    unique = np.unique(np.abs(experiment.reflections.hkl), axis=0, return_inverse=True)[1].ravel()
    observations = Observations.of(experiment, used, unique)
    assert np.any(np.diff(observations.rows) < 0)
    number = len(observations)
    true = np.maximum(observations.reflections.intensity, 60.0)  # the weak rows fit badly, so that obs and all differ
    selection = Selection(
        s_g=rng.normal(0.0, 0.01, len(used)),
        rsg=rng.random(len(used)),
        used=used,
        left_out={"rsg_max": int(np.sum(~used)), "d_min": 0},
        poor_frames=(9, 10, 13),
    )
    curve = np.array([[500.0, 1000.0, 1500.0], [0.3, np.nan, 0.2]])
    return Comparison(
        experiment=experiment,
        selection=selection,
        kinematical=fit(observations, true * rng.uniform(0.4, 1.8, number), "kinematical", np.empty((2, 0))),
        dynamical=fit(observations, true * rng.uniform(0.8, 1.2, number), "eigen", curve),
        refined=False,
        total_seconds=12.0,
        parameters={"nproc": np.int64(2), "g_max": math.inf, "model": Path("a.cif"), "grid": np.array([1.0, np.nan])},
    )


def test_the_numerical_error_is_told_and_a_broken_promise_too(comparison: Comparison, tmp_path: Path) -> None:
    text = io.StringIO()
    show_comparison(comparison, text)
    assert re.search(r"^numerical error, in max\(σ, 1 % I\)\s+0\.083\s+0\.083$", text.getvalue(), flags=re.MULTILINE)
    assert re.search(r"^orientations a frame\s+1560\s+1560$", text.getvalue(), flags=re.MULTILINE)
    assert "Warning: kinematical: no level of sampling keeps accuracy.tolerance" in text.getvalue()
    assert "Warning: eigen" not in text.getvalue()
    write_outputs(tmp_path / "run", comparison)
    assert json.loads((tmp_path / "run.json").read_text())["accuracy"]["error"] == pytest.approx(0.0831)


def test_a_spread_at_its_bound_is_told(comparison: Comparison) -> None:
    sigma = float(np.degrees(comparison.dynamical.nuisance.sigma))
    for parameters, told in (
        ({"spread.sigma_max": sigma, "spread.sigma": None}, True),
        ({"spread.sigma_max": sigma, "spread.sigma": sigma}, False),
        ({"spread.sigma_max": 1.5 * sigma, "spread.sigma": None}, False),
    ):
        text = io.StringIO()
        show_comparison(replace(comparison, parameters=parameters), text)
        assert ("try a larger spread.sigma_max" in " ".join(text.getvalue().split())) is told


def test_csv_has_every_row_and_i_calc_where_used(comparison: Comparison, tmp_path: Path) -> None:
    write_outputs(tmp_path / "run", comparison)
    with open(tmp_path / "run_reflections.csv", newline="") as file:
        text = file.read()
    assert text.splitlines()[0] == "frame,h,k,l,i_obs,sigma,i_calc,i_kin,s_g,rsg,used"
    table = list(csv.DictReader(io.StringIO(text)))
    reflections = comparison.experiment.reflections
    assert tuple(table[0]) == CSV_HEADER
    assert len(table) == len(reflections)
    assert [int(row["used"]) for row in table] == comparison.selection.used.astype(int).tolist()
    assert [[int(row[x]) for x in ("frame", "h", "k", "l")] for row in table] == np.column_stack(
        [reflections.frame_id, reflections.hkl]
    ).tolist()
    np.testing.assert_allclose([float(row["i_obs"]) for row in table], reflections.intensity, rtol=1e-8)
    np.testing.assert_allclose([float(row["s_g"]) for row in table], comparison.selection.s_g, rtol=1e-6)
    for name, theory in (("i_calc", comparison.dynamical), ("i_kin", comparison.kinematical)):
        assert all((row[name] == "") == (row["used"] == "0") for row in table)
        np.testing.assert_allclose(
            [float(table[n][name]) for n in comparison.result.observations.rows], theory.i_calc, rtol=1e-6
        )


def test_json_has_the_numbers_and_no_nan(comparison: Comparison, tmp_path: Path) -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    write_outputs(tmp_path / "run", comparison)
    read = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert set(read) >= KEYS
    for name in ("kinematical", "dynamical"):
        assert set(read[name]) == STATISTICS
        for key, value in read[name].items():
            assert value == pytest.approx(getattr(getattr(comparison, name).statistics, key)), key
    assert read["solver"] == "eigen"
    assert read["geometry"] == "precession"
    assert read["thickness"] == {"value": 1234.0, "shape": "cylinder", "mean": pytest.approx(1234.0 * math.pi / 4)}
    assert read["spread"]["sigma_degrees"] == pytest.approx(0.0875)
    assert read["seconds"] == {"total": 12.0, "forward": 3.0}
    assert set(read["versions"]) == {"edtbx", "cctbx", "numpy", "scipy", "python"}
    assert read["parameters"] == {"nproc": 2, "g_max": None, "model": "a.cif", "grid": [1.0, None]}
    assert read["left_out"] == comparison.selection.left_out
    assert read["frames_left_out"] == [9, 10, 13]
    assert [frame["id"] for frame in read["frames"]] == [7, 8, 11]
    assert read["frames"][1]["r_obs"] is None
    assert read["frames"][1]["n_obs"] == 0
    assert [frame["scale"] for frame in read["frames"]] == [2.0, 2.5, 3.0]
    assert read["frames"][0]["orientation_centre_degrees"] == pytest.approx(-0.05)


def test_frames_sum_up_to_the_whole(comparison: Comparison) -> None:
    frames = frame_numbers(comparison.dynamical)
    whole = comparison.dynamical.statistics
    assert sum(frame.n_all for frame in frames) == whole.n_all
    assert sum(frame.n_obs for frame in frames) == whole.n_obs
    assert np.nanmean([frame.r_obs for frame in frames]) == pytest.approx(whole.r_frames)


def test_cif_reads_back(comparison: Comparison, tmp_path: Path) -> None:
    write_outputs(tmp_path / "run 1", comparison)
    path = tmp_path / "run 1.cif"
    assert path.read_text(encoding="utf-8").isascii()
    block = iotbx.cif.reader(file_path=str(path)).model()["run_1"]
    r = comparison.dynamical.statistics
    for name, value in {
        "_refine_ls_R_factor_gt": r.r_obs,
        "_refine_ls_R_factor_all": r.r_all,
        "_refine_ls_wR_factor_gt": r.wr_obs,
        "_refine_ls_wR_factor_ref": r.wr_all,
        "_refine_ls_number_reflns": r.n_all,
        "_reflns_number_gt": r.n_obs,
        "_diffrn_radiation_wavelength": 0.0251,
        "_refine_ls.sample_thickness": 123.4,  # nm
    }.items():
        assert float(block[name]) == pytest.approx(value, abs=5e-5), name
    assert block["_reflns_threshold_expression"] == r"I>3\s(I)"
    assert block["_diffrn_radiation_probe"] == "electron"
    assert block["_refine.diffraction_theory"] == "dynamical"
    assert block["_refine_ls.sample_shape_expression"] == r"F(\t) = 1 - ( 1 - \t^2^)^1/2^"
    assert f"R(obs) {comparison.kinematical.statistics.r_obs:.4f}" in " ".join(block["_refine_special_details"].split())


def test_displacements_that_no_atom_has_are_named(comparison: Comparison) -> None:
    def shown(fit: TheoryFit) -> str:
        show_structure(replace(comparison, dynamical=fit), out := io.StringIO())
        return out.getvalue()

    assert comparison.dynamical is not None
    assert "no atom has" not in shown(comparison.dynamical)
    refined = structure()
    refined.scatterers()[0].u_iso = -0.003
    assert "no atom has, in Å²: C1 (U_iso -0.003). To go on" in shown(replace(comparison.dynamical, structure=refined))


def test_cif_holds_the_structure(comparison: Comparison, tmp_path: Path) -> None:
    write_outputs(tmp_path / "run", comparison)
    said = io.StringIO()
    read = read_model(tmp_path / "run.cif", log=said)
    assert said.getvalue() == ""
    assert read.unit_cell().parameters() == pytest.approx(CELL, abs=1e-6)
    assert read.space_group() == structure().space_group()
    for mine, back in zip(structure().scatterers(), read.scatterers(), strict=True):
        assert (mine.label, mine.scattering_type) == (back.label, back.scattering_type)
        assert back.site == pytest.approx(mine.site, abs=1e-6)
        assert back.occupancy == pytest.approx(mine.occupancy)
        assert back.flags.use_u_aniso() == mine.flags.use_u_aniso()


@pytest.mark.parametrize("label", ["C1", "C1_long", "O1"])
def test_a_refined_structure_comes_back_from_a_shelx_file(comparison: Comparison, tmp_path: Path, label: str) -> None:
    true = comparison.dynamical.structure.deep_copy_scatterers()
    true.scatterers()[0].label = label
    refined = replace(comparison, refined=True, dynamical=replace(comparison.dynamical, structure=true))
    paths = write_outputs(tmp_path / "run", refined)
    assert paths[1].name == "run.res"
    found = read_model(paths[1], log=io.StringIO())
    assert found.space_group() == true.space_group()
    assert found.unit_cell().parameters() == pytest.approx(true.unit_cell().parameters(), abs=6e-4)
    for mine, theirs in zip(found.scatterers(), true.scatterers(), strict=True):
        assert mine.element_symbol() == theirs.element_symbol()
        assert mine.site == pytest.approx(theirs.site, abs=1e-6)
        assert mine.occupancy == pytest.approx(theirs.occupancy, abs=1e-5)
    assert found.extract_u_cart_plus_u_iso().as_double() == pytest.approx(
        true.extract_u_cart_plus_u_iso().as_double(), abs=2e-5
    )


def test_cif_is_valid(comparison: Comparison, tmp_path: Path) -> None:
    """Against the core dictionary that comes with iotbx (2.4): items of later ones, all with a dot, are unknown to it."""
    folder = Path(iotbx.cif.__file__).parent / "dictionaries"
    core = validation.smart_load_dictionary(name="cif_core.dic", file_path=str(folder / "cif_core.dic.gz"))
    write_outputs(tmp_path / "run", comparison)
    model = iotbx.cif.reader(file_path=str(tmp_path / "run.cif")).model()
    said = io.StringIO()
    handler = model.validate(core, out=said)
    assert handler.error_count == 0, said.getvalue()
    unknown = re.findall(r"'(\S+)'", said.getvalue())
    assert len(unknown) == handler.warning_count
    assert all("." in name for name in unknown), said.getvalue()


def test_histogram_in_cif(comparison: Comparison, tmp_path: Path) -> None:
    write_outputs(tmp_path / "law", comparison)
    law = iotbx.cif.reader(file_path=str(tmp_path / "law.cif")).model()["law"]
    assert "_refine_ls.sample_shape_expression" in law
    nuisance = replace(comparison.dynamical.nuisance, shape="free", histogram=np.array([0.5, 0.5]))
    free = replace(comparison, dynamical=replace(comparison.dynamical, nuisance=nuisance))
    write_outputs(tmp_path / "run", free)
    block = iotbx.cif.reader(file_path=str(tmp_path / "run.cif")).model()["run"]
    assert "_refine_ls.sample_shape_expression" not in block
    assert "histogram" in block["_refine_ls.sample_shape_details"]


def test_picture_is_large_and_drawn(comparison: Comparison, tmp_path: Path) -> None:
    write_outputs(tmp_path / "run", comparison)
    picture = imread(tmp_path / "run.png")
    assert min(picture.shape[:2]) > 400
    for quarter in (picture[half, side] for half in _halves(0, picture) for side in _halves(1, picture)):
        assert len(np.unique(quarter.sum(axis=-1))) > 20


def _halves(axis: int, picture: np.ndarray) -> list[slice]:
    middle = picture.shape[axis] // 2
    return [slice(0, middle), slice(middle, None)]


def test_paths_come_back_in_order(comparison: Comparison, tmp_path: Path) -> None:
    paths = write_outputs(str(tmp_path / "run.v2"), comparison)
    assert paths == [tmp_path / f"run.v2{end}" for end in ENDS]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize(
    ("failing", "number"), [(0, errno.ENOSPC), (1, errno.ENOSPC), (2, errno.EDQUOT), (3, errno.ENOSPC)]
)
@pytest.mark.parametrize("earlier", [False, True], ids=["fresh", "earlier"])
def test_a_full_disk_leaves_whole_files(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, earlier: bool, number: int
) -> None:
    """From the n-th file on no room: those before are kept, structure and numbers first, and no part is left."""
    calls = []

    def fail_late(handle: int) -> None:
        calls.append(handle)
        if len(calls) > failing:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("edtbx_cctbx.report.figure.comparison_picture", lambda comparison: b"drawn")
    for end in ENDS if earlier else []:
        (tmp_path / f"run{end}").write_text("earlier")
    monkeypatch.setattr(os, "fsync", fail_late)
    with pytest.raises(Sorry) as stopped:
        write_outputs(tmp_path / "run", comparison)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    said = str(stopped.value)
    assert ("the disk is full" if number == errno.ENOSPC else "the disk quota is used up") in said
    missing, _, kept = said.partition("complete and kept: " if failing else "nothing was written")
    for place, end in enumerate(ENDS):
        assert (f"run{end}" in kept.partition("still of an earlier run")[0]) is (place < failing)
        assert (f"run{end}" in missing) is (place >= failing)
    now = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(now) == {f"run{end}" for end in (ENDS if earlier else ENDS[:failing])}
    assert {name for name, content in now.items() if content != b"earlier"} == {f"run{end}" for end in ENDS[:failing]}
    write_outputs(tmp_path / "run", comparison)
    for end in ENDS[:failing]:
        assert (tmp_path / f"run{end}").read_bytes() == now[f"run{end}"]


def test_a_picture_that_cannot_be_made_loses_nothing_else(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(comparison: Comparison) -> bytes:
        raise ValueError("no such glyph")

    monkeypatch.setattr("edtbx_cctbx.report.figure.comparison_picture", stumble)
    with pytest.raises(
        Sorry, match=r"run\.png could not be written \(ValueError: no such glyph\); complete and kept: "
    ):
        write_outputs(tmp_path / "run", comparison)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"run{end}" for end in ENDS[:-1])


@pytest.mark.parametrize("name", ["$a_{.cif_pets", "\u4e2d\U0001f98a.cif_pets", "\udcff.cif_pets"])
def test_data_of_any_name_are_reported(comparison: Comparison, tmp_path: Path, name: str) -> None:
    experiment = replace(comparison.experiment, source=name)
    named = replace(comparison, experiment=experiment, parameters={"input.data": name})
    assert len(write_outputs(tmp_path / "run", named)) == len(ENDS)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["parameters"]["input.data"] == name


@pytest.mark.parametrize("prefix", ["missing/run", "", "file/run"])
def test_impossible_prefix(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(Sorry, match="output prefix"):
        write_outputs(prefix, comparison)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_table_shows_the_statistics(comparison: Comparison) -> None:
    out = io.StringIO()
    show_comparison(comparison, out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    table = {line[:34].strip(): line[34:].split() for line in lines}
    pair = [comparison.kinematical.statistics, comparison.dynamical.statistics]
    labels = ("R(obs)", "wR(obs)", "R(all)", "wR(all)", "MR(obs)", "mean R(obs) of frames")
    for label, name in zip(labels, ("r_obs", "wr_obs", "r_all", "wr_all", "mr_obs", "r_frames"), strict=True):
        assert table[label] == [f"{getattr(r, name):.4f}" for r in pair]
    assert table["reflections observed"] == [str(r.n_obs) for r in pair]
    assert table["reflections used"] == [str(r.n_all) for r in pair]
    assert table["thickness, Å"] == ["1234", "1234"]
    assert table["orientation spread sigma, degrees"] == ["0.0875", "0.0875"]
    frames = [line.split() for line in lines if line.split()[:1] in (["7"], ["8"], ["11"])]
    mine = frame_numbers(comparison.dynamical)
    other = frame_numbers(comparison.kinematical)
    assert [row[:3] for row in frames] == [[str(f.id), str(f.n_all), str(f.n_obs)] for f in mine]
    assert frames[0][3:] == [f"{other[0].r_obs:.4f}", f"{mine[0].r_obs:.4f}", "2", "-0.050"]
    assert frames[1][3:5] == ["-", "-"]
    left_out = comparison.selection.left_out["rsg_max"]
    assert f"Rows used: {len(comparison.result.observations.rows)} of 90. Left out: rsg_max {left_out} (" in " ".join(
        lines
    )
    assert "observed: I > 3 sigma(I)" in " ".join(lines)
    assert "Frames left out, with too few reflections (frames.min_reflections): 9-10, 13." in " ".join(lines)
    none_left_out = replace(comparison, selection=replace(comparison.selection, poor_frames=()))
    show_comparison(none_left_out, out := io.StringIO())
    assert "Frames left out" not in out.getvalue()


@pytest.mark.parametrize(
    ("shape", "mean"),
    [("slab", 1.0), ("wedge", 0.5), ("cylinder", math.pi / 4), ("lens", 2 / 3), ("thin", 1 / 3), ("free", 1.0)],
)
def test_mean_thickness(shape: str, mean: float) -> None:
    nuisance = Nuisance(shape=shape, thickness=800.0, sigma=0.0, centres=np.zeros(1), scales=np.ones(1))
    assert mean_thickness(nuisance) == pytest.approx(800.0 * mean, rel=1e-12)
    assert (shape in LAWS) == (shape != "free")


def test_displacements_stay_positive_when_rounded(tmp_path: Path) -> None:
    """A small U with a large s.u. rounds to zero, and the file could not be read back."""
    model = structure()
    first, second = model.scatterers()[0], model.scatterers()[1]
    first.set_use_u_iso_only()
    first.u_iso = 0.0004
    second.set_use_u_aniso_only()
    u_cart = (0.0004, 0.02, 0.02, 0.0, 0.0, 0.0)
    second.u_star = adptbx.u_cart_as_u_star(model.unit_cell(), u_cart)
    for scatterer in model.scatterers():
        scatterer.flags.set_grads(False)
        scatterer.flags.set_grad_u_iso(scatterer.flags.use_u_iso())
        scatterer.flags.set_grad_u_aniso(scatterer.flags.use_u_aniso())
    lengths = model.unit_cell().reciprocal_parameters()[:3]
    u_star_su = [0.02 * lengths[i] * lengths[j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    wide = flex.double(np.diag(np.square([0.02, *u_star_su])).copy()).matrix_symmetric_as_packed_u()
    for covariance in (None, wide):
        block = _bare_block(model, covariance)
        path = tmp_path / "model.cif"
        path.write_text(_as_text(block, "model"))
        back = read_model(path)
        assert back.scatterers()[0].u_iso == pytest.approx(0.0004, rel=0.1)
        again = adptbx.u_star_as_u_cart(back.unit_cell(), back.scatterers()[1].u_star)
        np.testing.assert_allclose(again, u_cart, atol=2e-4)
