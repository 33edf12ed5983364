"""The programs as a user runs them: files in, files out, and one line where the input is at fault."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import iotbx.cif
import numpy as np
import pytest
from cctbx.array_family import flex

from edtbx.intensities.thickness import LAWS
from edtbx.levels.level_search import intensity_error
from edtbx.levels.sampling_levels import BEAMS, DRAFT, Level
from edtbx.measurement.experiment import ScanGeometry
from edtbx.solvers.block import Accuracy, Solver
from edtbx_cctbx import read_experiment, read_model, with_model_cell
from edtbx_cctbx.maps.make_maps import MapSettings
from edtbx_cctbx.programs import compare as compare_program
from edtbx_cctbx.programs import map as map_program
from edtbx_cctbx.programs import refine as refine_program
from edtbx_cctbx.programs.running import named_files
from edtbx_cctbx.refinement import settings as refinement_settings
from edtbx_cctbx.refinement.settings import RefinementSettings, Settings

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODEL, DATA = str(EXAMPLES / "example.cif"), str(EXAMPLES / "example.cif_pets")
QUICK = ["frames.last=2", "nproc=2"]


def run(program, *arguments):
    program.run([*arguments])


def test_compare_writes_what_scripts_rely_on(tmp_path, capsys):
    run(compare_program, MODEL, DATA, *QUICK, f"output.prefix={tmp_path / 'x'}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.cif", "x.json", "x.png", "x_reflections.csv"]
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["solver"] == "auto"
    assert found["dynamical"]["r_obs"] < 0.5 * found["kinematical"]["r_obs"]
    assert found["dynamical"]["n_obs"] == found["kinematical"]["n_obs"]
    assert [frame["id"] for frame in found["frames"]] == [1, 2]
    assert found["parameters"]["frames.last"] == 2
    assert found["seconds"]["total"] >= found["seconds"]["forward"] > 0.0
    kinds = ("coarse", "level", "fine")
    assert found["seconds"]["total"] >= sum(found["seconds"][kind] for kind in kinds) > 0.0
    assert found["passes"]["coarse"] >= 2  # one for each theory
    assert set(found["passes"]) == set(kinds)
    with (tmp_path / "x_reflections.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert {row["frame"] for row in rows} == {"1", "2"}
    assert sum(row["used"] == "1" for row in rows) == found["dynamical"]["n_all"]
    printed = capsys.readouterr().out
    assert f"{found['dynamical']['r_obs']:.4f}" in printed
    assert "R(obs)" in printed


def test_a_user_sees_what_was_read_found_and_written(tmp_path, capsys):
    options = ["frames.first=2", "frames.last=3", "frames.min_reflections=35", "solver.name=kinematical", "nproc=2"]
    run(compare_program, MODEL, DATA, *options, "model.invert=True", f"output.prefix={tmp_path / 'x'}")
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = [line.strip() for line in shown.out.splitlines()]
    for line in (
        f"Model: {MODEL}",
        "Space group: P 21 21 21 (No. 19)",
        "Inverted: the other hand is taken",
        f"Data: {DATA}",
        "min_reflections = 35",
        f"wrote {tmp_path / 'x.json'}",
    ):
        assert line in lines
    experiment = with_model_cell(read_experiment(DATA).select_frames([2, 3]), read_model(MODEL))
    experiment.show_summary(prefix="  ")
    assert capsys.readouterr().out in shown.out
    poor = json.loads((tmp_path / "x.json").read_text())["frames_left_out"]
    assert poor == [2]
    assert "Frames left out, with too few reflections (frames.min_reflections): 2." in lines
    for noise in ("No files found", "not used", "Processing"):
        assert noise not in shown.out


def test_parameters_come_from_files_as_well_and_from_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("few.eff").write_text("frames { first = 3\n last = 4 }\nsolver.name = kinematical\n")
    run(compare_program, MODEL, DATA, "few.eff", "frames.last=3", "--overwrite")
    found = json.loads(Path("edtbx.json").read_text())
    assert [frame["id"] for frame in found["frames"]] == [3]
    assert found["solver"] == "kinematical"


def displaced(tmp_path):
    """A model with atoms 0.05 Å away from where they belong, and the true one."""
    start = read_model(MODEL)
    truth = start.deep_copy_scatterers()
    flex.set_random_seed(1)
    start.shake_sites_in_place(rms_difference=0.05)
    model = tmp_path / "start.cif"
    with model.open("w") as out:
        start.as_cif_simple(out=out, format="coreCIF")
    return model, start, truth


def rms_of_heavy_atoms(truth, other):
    return (truth.sites_cart() - other.sites_cart()).select(~truth.element_selection("H")).rms_length()


def test_the_gradient_minimiser_brings_displaced_atoms_back(tmp_path):
    model, start, truth = displaced(tmp_path)
    quick = ["refinement.method=gradient", "refinement.cycles=1", "refinement.anisotropic=none"]
    run(refine_program, str(model), DATA, *quick, "accuracy.tolerance=0.3", f"output.prefix={tmp_path / 'r'}")
    assert rms_of_heavy_atoms(truth, read_model(tmp_path / "r.cif")) < 0.35 * rms_of_heavy_atoms(truth, start)
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["dynamical"]["r_obs"] < found["kinematical"]["r_obs"]
    assert found["least_squares"] is None


def test_least_squares_brings_displaced_atoms_back_with_their_uncertainties(tmp_path, capsys):
    """In at most ten cycles, to the true sites within their s.u.s; the CIF is ready to be deposited."""
    model, _, truth = displaced(tmp_path)
    run(refine_program, str(model), DATA, "accuracy.tolerance=0.3", f"output.prefix={tmp_path / 'r'}")
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["least_squares"]["shift_over_su"] < 0.01
    assert found["dynamical"]["r_obs"] < 0.04 < found["kinematical"]["r_obs"]
    assert 0.8 < found["least_squares"]["goodness_of_fit"] < 1.3
    block = iotbx.cif.reader(file_path=str(tmp_path / "r.cif")).model()["r"]
    atoms = block.get_loop("_atom_site")
    deviations = []
    for n, scatterer in enumerate(truth.scatterers()):
        if atoms["_atom_site_type_symbol"][n] == "H":
            assert (atoms["_atom_site_calc_flag"][n], atoms["_atom_site_refinement_flags_posn"][n]) == ("calc", "R")
            continue
        for axis, true in zip("xyz", scatterer.site, strict=True):
            value, su = float_with_su(atoms[f"_atom_site_fract_{axis}"][n])
            deviations.append((value - true) / su)
    assert 0.5 < np.std(deviations) < 1.7
    assert np.abs(deviations).max() < 4.5
    assert block["_refine_ls_hydrogen_treatment"] == "constr"
    assert float(block["_refine_ls_shift/su_max"]) < 0.01
    assert int(block["_refine_ls_number_parameters"]) == found["least_squares"]["parameters"]
    assert len(block["_refln_intensity_calc"]) == found["dynamical"]["n_all"]
    bonds = block.get_loop("_geom_bond")
    lengths = dict(
        zip(
            zip(bonds["_geom_bond_atom_site_label_1"], bonds["_geom_bond_atom_site_label_2"], strict=True),
            bonds["_geom_bond_distance"],
            strict=True,
        )
    )
    assert lengths["C2", "H1"] == "1.0900"  # held, hence without s.u.
    value, su = float_with_su(lengths["C1", "C2"])
    assert value == pytest.approx(1.53, abs=5.0 * su)
    assert 0.001 < su < 0.02
    printed = capsys.readouterr().out
    assert "Least squares: " in printed
    assert "Thickness " in printed


def float_with_su(text):
    """12.345(67) -> 12.345, 0.067."""
    value, _, digits = text.rstrip(")").partition("(")
    decimals = len(value.partition(".")[2])
    return float(value), int(digits) * 10.0**-decimals


def test_too_many_parameters_are_told(tmp_path, capsys):
    options = ["frames.last=1", "refinement.hydrogens=free", "refinement.anisotropic=all", "accuracy.tolerance=1"]
    with pytest.raises(SystemExit):
        run(refine_program, MODEL, DATA, *options, f"output.prefix={tmp_path / 'r'}")
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Sorry: ")
    assert "do not determine all of" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_hydrogen_is_placed_and_refined(tmp_path, capsys):
    """A start model without hydrogen, 0.05 Å off: all of it is found, and R says so."""
    options = ["refinement.place_hydrogens=True", "accuracy.tolerance=0.5", "refinement.cycles=3"]
    run(refine_program, str(EXAMPLES / "start.cif"), DATA, *options, f"output.prefix={tmp_path / 'r'}")
    assert "hydrogen placed by geometry: 7 atoms" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["dynamical"]["r_obs"] < 0.04
    refined, truth = read_model(tmp_path / "r.cif"), read_model(MODEL)
    there = [s.site for s in truth.scatterers() if s.element_symbol() == "H"]
    for scatterer in refined.scatterers():
        if scatterer.element_symbol() == "H":
            assert min(truth.unit_cell().distance(scatterer.site, site) for site in there) < 0.35


@pytest.mark.parametrize("choice", ["auto", "all", "none"])
def test_the_choice_of_anisotropy_arrives(choice, monkeypatch):
    class Arrived(Exception):
        pass

    def look(experiment, structure, settings, *rest):
        assert settings.anisotropic == choice
        raise Arrived

    monkeypatch.setattr(refine_program, "refine", look)
    with pytest.raises(Arrived):
        run(refine_program, MODEL, DATA, f"refinement.anisotropic={choice}")


@pytest.mark.parametrize(
    ("program", "function", "expected"),
    [
        (compare_program, "compare", Settings()),
        (refine_program, "refine", RefinementSettings()),
        (map_program, "make_maps", MapSettings()),
    ],
)
def test_defaults_of_parameters_are_those_of_scripts(program, function, expected, monkeypatch, tmp_path):
    class Arrived(Exception):
        pass

    def look(experiment, structure, settings, *rest, cross_validate=None):
        assert settings == expected
        assert cross_validate is None
        raise Arrived

    monkeypatch.setattr(program, function, look)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Arrived):
        run(program, MODEL, DATA)


@pytest.mark.parametrize("auto", ["auto", "Auto"])
def test_a_default_may_be_given(auto, monkeypatch):
    class Arrived(Exception):
        pass

    def look(experiment, structure, settings, *rest, cross_validate=None):
        assert experiment.geometry is ScanGeometry.ROTATION
        assert set(settings.bounds.shapes) == set(LAWS)
        raise Arrived

    monkeypatch.setattr(compare_program, "compare", look)
    with pytest.raises(Arrived):
        run(compare_program, MODEL, DATA, f"thickness.shape={auto}", f"frames.geometry={auto}", "nproc=None")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([MODEL], "no data given"),
        ([DATA], "no model given"),
        (["nowhere.cif", DATA], "nowhere.cif"),
        ([MODEL, "nowhere.cif_pets"], "nowhere.cif_pets"),
        ([MODEL, DATA, "thickness.value=-3"], "nm"),
        ([MODEL, DATA, "thickness.refine=False"], "thickness.value"),
        ([MODEL, DATA, "solver.name=eigne"], "auto, eigen, kinematical, propagator, two_beam"),
        ([MODEL, DATA, "selection.rsg_max=0.0001"], "rsg_max"),
        ([MODEL, DATA, "frames.exclude=99"], "1 to 12"),
        ([MODEL, DATA, "frames.first=50"], "no frame is left"),
        ([MODEL, DATA, "beams.s_max=abc"], "beams.s_max"),
        ([MODEL, DATA, "beams.s_max=-1"], "beams.s_max"),
        ([MODEL, DATA, "no.such=1"], "no.such"),
    ],
)
@pytest.mark.parametrize("program", [compare_program, refine_program], ids=["compare", "refine"])
def test_bad_input_is_one_line_and_leaves_nothing(program, arguments, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(program, *arguments, f"output.prefix={tmp_path / 'x'}")
    assert stopped.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Sorry: ")
    assert said in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_help_comes_without_a_crash():
    code = "from edtbx_cctbx.programs.compare import run; run(['--show-defaults', '--attributes-level=1'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    for name in ("g_max", "rsg_max", "refine_orientation", "invert", "nproc", "prefix"):
        assert name in shown.stdout


def test_bare_names_are_files():
    assert named_files(["a.cif", "b.cif_pets", "nproc=2", "--overwrite", "c.eff"]) == [
        "input.model=a.cif",
        "input.data=b.cif_pets",
        "nproc=2",
        "--overwrite",
        "c.eff",
    ]


def test_the_error_promised_is_the_error_found(tmp_path):
    """Against a sampling much finer than any level; the promise is kept by the level chosen, not by one finer still."""
    experiment, structure = read_experiment(DATA).select_frames([2, 6, 9]), read_model(MODEL)
    settings = Settings(tolerance=0.2)
    scattering = settings.scattering_model("auto", experiment, structure)
    nuisance = scattering.fit_coarse(structure)
    found = scattering.choose_level(structure, nuisance)
    assert found.kept
    assert found.level.accuracy != BEAMS[-1]
    finest = Level(accuracy=Accuracy(s_max=0.2, s_strong=0.03, tolerance=1e-6), tilts=2.0, spacing=0.4)
    forward, f = scattering.forward, scattering.structure_factors(structure)
    levels = (found.level, finest, DRAFT)
    fine, true, draft = (
        forward.resampled(level.sampling(nuisance, settings.bounds, forward.g_max), bases=nuisance.centres)
        for level in levels
    )
    # as few tilts as the draft names: with so narrow a spread it takes more
    quarter = replace(draft.sampling, tilt_thickness=DRAFT.tilts * nuisance.thickness)
    draft = draft.resampled(quarter)
    intensities = [model.intensities(f, nuisance) for model in (fine, true, draft)]
    error = intensity_error(true, range(3), intensities[0], intensities[1])
    assert error <= 1.5 * max(found.error, 0.1)  # the next level, by which it was judged, has an error of its own
    assert intensity_error(true, range(3), intensities[2], intensities[1]) > 2.0 * error


def test_a_solver_without_derivatives_cannot_refine(tmp_path, monkeypatch, capsys):
    class Blind(Solver):
        def intensities(self, block):
            raise AssertionError("nothing is to be computed")

    monkeypatch.setattr(refinement_settings, "installed_solvers", lambda: SimpleNamespace(create=lambda name: Blind()))
    with pytest.raises(SystemExit, match="1"):
        run(refine_program, MODEL, DATA, f"output.prefix={tmp_path / 'x'}")
    assert capsys.readouterr().err.startswith(
        "Sorry: the solver auto gives no derivatives, which refinement needs: take"
    )
    assert list(tmp_path.iterdir()) == []
