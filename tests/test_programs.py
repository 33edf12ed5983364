"""The programs as a user runs them: files in, files out, and one line where the input is at fault."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cctbx.array_family import flex

from edtbx.experiment import ScanGeometry
from edtbx.levels import DRAFT, LEVELS, Level, intensity_error
from edtbx.solvers.block import Accuracy
from edtbx.thickness import QUANTILES
from edtbx_cctbx import read_experiment, read_model, refinement
from edtbx_cctbx.comparison import Settings, fit_coarse
from edtbx_cctbx.programs import compare as compare_program
from edtbx_cctbx.programs import refine as refine_program
from edtbx_cctbx.programs.command_line import named_files
from edtbx_cctbx.structure_parameters import StructureParameters

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
    experiment = read_experiment(DATA).select_frames([2, 3])
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
    run(compare_program, MODEL, DATA, "few.eff", "frames.last=3", "--overwrite", "output.overwrite=True")
    found = json.loads(Path("edtbx.json").read_text())
    assert [frame["id"] for frame in found["frames"]] == [3]
    assert found["solver"] == "kinematical"


def test_refine_brings_displaced_atoms_back(tmp_path):
    start = read_model(MODEL)
    truth = start.deep_copy_scatterers()
    flex.set_random_seed(1)
    start.shake_sites_in_place(rms_difference=0.05)
    model = tmp_path / "start.cif"
    with model.open("w") as out:
        start.as_cif_simple(out=out, format="coreCIF")
    quick = ["refinement.cycles=1", "refinement.anisotropic=none"]
    run(refine_program, str(model), DATA, *quick, f"output.prefix={tmp_path / 'r'}")
    refined = read_model(tmp_path / "r.cif")
    heavy = truth.element_selection("H")
    before = (truth.sites_cart() - start.sites_cart()).select(~heavy).rms_length()
    after = (truth.sites_cart() - refined.sites_cart()).select(~heavy).rms_length()
    assert after < 0.35 * before
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["dynamical"]["r_obs"] < found["kinematical"]["r_obs"]


@pytest.mark.parametrize("choice", ["auto", "all", "none"])
def test_the_choice_of_anisotropy_arrives(choice, monkeypatch):
    class Arrived(Exception):
        pass

    def look(experiment, structure, settings, schedule, *rest):
        assert schedule.anisotropic == choice
        raise Arrived

    monkeypatch.setattr(refine_program, "refine", look)
    with pytest.raises(Arrived):
        run(refine_program, MODEL, DATA, f"refinement.anisotropic={choice}")


@pytest.mark.parametrize("auto", ["auto", "Auto"])
def test_a_default_may_be_given(auto, monkeypatch):
    class Arrived(Exception):
        pass

    def look(experiment, structure, settings, *rest):
        assert experiment.geometry is ScanGeometry.ROTATION
        assert set(settings.choices.shapes) == set(QUANTILES)
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


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_refinement_leaves_the_best_that_it_found(after, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the middle of a step of the first theory: both are fitted, and the files are written."""
    calls = []
    whole = StructureParameters.value_and_gradient

    def interrupted(self, target):
        calls.append(target.solver_name)
        if len(calls) > after:
            raise KeyboardInterrupt
        return whole(self, target)

    monkeypatch.setattr(StructureParameters, "value_and_gradient", interrupted)
    start = EXAMPLES / "start.cif"
    run(refine_program, str(start), DATA, "frames.last=3", "nproc=2", f"output.prefix={tmp_path / 'x'}")
    assert set(calls) == {"kinematical"}
    assert len(calls) == after + 1
    assert "interrupted: going on with what is there" in capsys.readouterr().out
    sites = read_model(tmp_path / "x.cif").sites_frac().as_numpy_array()
    # the theory that had no turn, which is the one whose structure is written, keeps the start
    np.testing.assert_allclose(sites, read_model(start).sites_frac().as_numpy_array(), atol=1e-5)
    assert json.loads((tmp_path / "x.json").read_text())["dynamical"]["n_all"] > 0


def test_the_error_promised_is_the_error_found(tmp_path):
    """Against a sampling much finer than any level; the promise is kept by the level chosen, not by one finer still."""
    experiment, structure = read_experiment(DATA).select_frames([2, 6, 9]), read_model(MODEL)
    settings = Settings(tolerance=0.2)
    target = settings.target("auto", experiment, structure)
    target.nuisance = fit_coarse(target, structure, settings)
    found = settings.level_for(target, structure, target.nuisance)
    assert found.kept
    assert found.level is not LEVELS[-1]
    finest = Level(accuracy=Accuracy(s_max=0.2, s_strong=0.03, tolerance=1e-6), tilts=2.0, spacing=0.4)
    f, choices, g_max = target.structure_factors(structure), settings.choices, target.forward.g_max
    levels = (found.level, finest, DRAFT)
    fine, true, draft = (
        target.forward.resampled(level.sampling(target.nuisance, choices, g_max), bases=target.nuisance.centres)
        for level in levels
    )
    intensities = [model.intensities(f, target.nuisance) for model in (fine, true, draft)]
    error = intensity_error(true, range(3), intensities[0], intensities[1])
    assert error <= 1.5 * max(found.error, 0.1)  # the next level, by which it was judged, has an error of its own
    assert intensity_error(true, range(3), intensities[2], intensities[1]) > 2.0 * error


def test_a_solver_without_derivatives_cannot_refine(tmp_path, monkeypatch, capsys):
    class Blind:
        def intensities(self, block):
            raise AssertionError("nothing is to be computed")

    monkeypatch.setattr(refinement, "installed_solvers", lambda: SimpleNamespace(create=lambda name: Blind()))
    with pytest.raises(SystemExit, match="1"):
        run(refine_program, MODEL, DATA, f"output.prefix={tmp_path / 'x'}")
    assert capsys.readouterr().err.startswith(
        "Sorry: the solver auto gives no derivatives, which refinement needs: take"
    )
    assert list(tmp_path.iterdir()) == []
