"""Bad files and parameters: one line that begins with `Sorry:` and says the remedy, exit status 1, nothing written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edtbx_cctbx.programs import compare, refine, simulate

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODEL, DATA = EXAMPLES / "example.cif", EXAMPLES / "example.cif_pets"
WITH_DATA = {"compare": compare, "refine": refine}
ALL = {**WITH_DATA, "simulate": simulate}


def refused(program, capsys, folder: Path, *arguments: str) -> str:
    """The one line that the program says, once it has been seen to be one and to be all that happened."""
    out = folder / "out"
    out.mkdir()
    with pytest.raises(SystemExit) as stopped:
        program.run([*arguments, f"output.prefix={out / 'x'}"])
    said = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 1
    assert len(said) == 1
    assert said[0].startswith("Sorry: ")
    assert list(out.iterdir()) == []
    return said[0]


def valued(tag: str, value: str):
    """The text with another value of a tag, or without the tag."""

    def change(text: str) -> str:
        changed = re.sub(rf"^{tag}\s.*\n", f"{tag} {value}\n" if value else "", text, flags=re.MULTILINE)
        assert changed != text
        return changed

    return change


def atom(label: str, place: int, value: str):
    """The text with another value in the row of an atom."""

    def change(text: str) -> str:
        rows = [line for line in text.splitlines() if line.startswith(f"{label} ")]
        words = rows[0].split()
        words[place] = value
        return text.replace(rows[0], " ".join(words))

    return change


UB = "_diffrn_orient_matrix_UB_11"
DATA_CASES = {
    "truncated": (lambda text: text[: len(text) // 2].rstrip()[:-1].rpartition(" ")[0], "fetch it again"),
    "empty": (lambda text: "", "is empty: expected a .cif_pets"),
    "binary": (lambda text: "\x00\x01\x02" * 99, "is a binary file: expected a .cif_pets"),
    "nan in UB": (valued(UB, "nan"), "correct it, or export"),
    "zero in UB": (valued(UB, "0"), "export the file from PETS2 again"),
    "nan in cell": (valued("_cell_length_a", "nan"), "correct it, or export"),
    "zero in cell": (valued("_cell_length_b", "0"), "correct them, or export"),
    "nan wavelength": (valued("_diffrn_radiation_wavelength", "nan"), "correct it, or export"),
    "zero wavelength": (valued("_diffrn_radiation_wavelength", "0"), "0.001 to 0.2 Å), got 0: correct it"),
    "no wavelength": (valued("_diffrn_radiation_wavelength", ""), "is missing: export"),
    "no cell": (valued("_cell_angle_beta", ""), "is missing: export"),
    "no UB": (valued(UB, ""), "give the .cif_pets file"),
    "no alpha": (lambda text: text.replace("_diffrn_zone_axis_alpha", "_other"), "is missing: export"),
    "no sigma": (lambda text: text.replace("_refln_intensity_sigma", "_other"), "is missing: export"),
    "unknown frame": (lambda text: text.rstrip() + "\n 1 1 1 10.0 1.0 77\n", "add that frame, or take"),
    "cell off UB": (valued("_cell_length_a", "6.8"), "11.29% in length and 0.00° in angle off"),
}


@pytest.mark.parametrize("program", WITH_DATA.values(), ids=WITH_DATA)
@pytest.mark.parametrize(("change", "remedy"), DATA_CASES.values(), ids=DATA_CASES)
def test_bad_data(program, change, remedy, tmp_path, capsys):
    bad = tmp_path / "bad.cif_pets"
    bad.write_text(change(DATA.read_text()))
    said = refused(program, capsys, tmp_path, str(MODEL), str(bad))
    assert remedy in said
    assert str(bad) in said


MODEL_CASES = {
    "truncated": (lambda text: text[: int(0.9 * len(text))].rpartition(" ")[0], "fetch it again"),
    "empty": (lambda text: "", "is empty: expected a structure model"),
    "binary": (lambda text: "\x00\x01\x02" * 99, "is a binary file: expected a structure model"),
    "no atoms": (lambda text: text[: text.rindex("loop_")], "has no atoms"),
    "unknown element": (atom("N1", 1, "Xx"), "give a chemical element"),
    "nan site": (atom("N1", 2, "nan"), "correct it, or write ? if unknown"),
    "word for a site": (atom("N1", 2, "1/2"), "atom N1: _atom_site_fract_x: '1/2' is no number"),
    "quote not closed": (valued("_space_group_name_H-M_alt", "'P 21 21 21"), "a quote is not closed"),
    "U below zero": (atom("N1", 5, "-0.01"), "model.mend_displacements=True"),
    "nan in cell": (valued("_cell_length_a", "nan"), "'nan' is no number: correct it"),
    "zero in cell": (valued("_cell_length_a", "0"), "correct the file, or export it again"),
}


@pytest.mark.parametrize("program", ALL.values(), ids=ALL)
@pytest.mark.parametrize(("change", "remedy"), MODEL_CASES.values(), ids=MODEL_CASES)
def test_bad_model(program, change, remedy, tmp_path, capsys):
    bad = tmp_path / "bad.cif"
    bad.write_text(change(MODEL.read_text()))
    data = [] if program is simulate else [str(DATA)]
    said = refused(program, capsys, tmp_path, str(bad), *data)
    assert remedy in said
    assert str(bad) in said


def test_a_displacement_that_is_no_number(tmp_path, capsys):
    bad = tmp_path / "bad.cif"
    header = [line for line in MODEL.read_text().splitlines() if line.startswith("_atom_site_")]
    bad.write_text(atom("N1", header.index("_atom_site_U_iso_or_equiv"), "nan")(MODEL.read_text()))
    assert "atom N1: _atom_site_U_iso_or_equiv: 'nan' is no number" in refused(simulate, capsys, tmp_path, str(bad))


SHARED_PARAMETERS = {
    "thickness.value=-3": "is it in nm?",
    "thickness.value=nan": "thickness.value must be a finite number",
    "thickness.value=1e9": "is it in nm?",
    "solver.name=eigne": "the known ones are",
    "solver.name=None": "solver.name has no value: give one",
    "beams.s_max=nan": "beams.s_max must be a finite number",
    "no.such=1": "--show-defaults",
    "output.overwrite=": "output.overwrite has no value",
    "output.suffix=a": "output.suffix is not recognized",
    "cluster=host": "cluster must be the address",
    "nproc=0": "nproc",
    "nproc=auto": "nproc has no value",
    "thickness.value=auto": "thickness.value has no value",
}
FITTED_PARAMETERS = {
    "selection.rsg_max=0.0001": "669 to rsg_max; relax those rules",
    "selection.d_min=100": "669 to d_min; relax those rules",
    "selection.rsg_max=None": "leave it out for the default, 0.7",
    "frames.min_reflections=1000": "440 to frames with few reflections; relax those rules",
    "spread.sigma=50": "spread.sigma",
    "frames.orientation_max=nan": "must be a finite number",
    "frames.geometry=spiral": "rotation precession",
}
SIMULATED_PARAMETERS = {
    "scan.orientation=nan,0,0": "must be a finite number",
    "seed=-1": "seed",
    "selection.d_min=None": "leave it out for the default, 0.7",
    "beam.wavelength=0": "correct it",
}


@pytest.mark.parametrize(
    ("program", "parameter", "remedy"),
    [
        *((p, *case) for p in ALL for case in SHARED_PARAMETERS.items()),
        *((p, *case) for p in WITH_DATA for case in FITTED_PARAMETERS.items()),
        *(("simulate", *case) for case in SIMULATED_PARAMETERS.items()),
    ],
)
def test_bad_parameters(program, parameter, remedy, tmp_path, capsys):
    data = [] if program == "simulate" else [str(DATA)]
    assert remedy in refused(ALL[program], capsys, tmp_path, str(MODEL), *data, parameter)


@pytest.mark.parametrize("program", ALL.values(), ids=ALL)
@pytest.mark.parametrize("prefix", ["None", "", "{}/missing/x", "{}/"])
def test_an_impossible_prefix_is_told_before_the_work(program, prefix, tmp_path, capsys):
    data = [] if program is simulate else [str(DATA)]
    with pytest.raises(SystemExit) as stopped:
        program.run([str(MODEL), *data, f"output.prefix={prefix.format(tmp_path)}"])
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert said.err.startswith("Sorry: ")
    assert "prefix" in said.err
    assert "Model:" not in said.out  # nothing was read yet
    assert list(tmp_path.iterdir()) == []


def test_two_models_or_data_that_nobody_wants(tmp_path, capsys):
    said = refused(compare, capsys, tmp_path, str(MODEL), str(EXAMPLES / "start.cif"), str(DATA))
    assert "more than one file of the model given" in said
    (tmp_path / "out").rmdir()
    assert "takes no data: leave out" in refused(simulate, capsys, tmp_path, str(MODEL), str(DATA))


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("beams.s_mox = 0.01\n", "beams.s_mox is not recognized: did you mean beams.s_max?"),
        ("beams.s_max = -1\n", "beams.s_max"),
        ("beams {\n s_max = 0.01\n", "few.eff: Syntax error"),
        ("\x00\x01", "few.eff is a binary file: expected a file of parameters"),
        (None, "cannot read"),
    ],
)
def test_bad_files_of_parameters(text, remedy, tmp_path, capsys):
    if text is not None:
        (tmp_path / "few.eff").write_text(text)
    assert remedy in refused(compare, capsys, tmp_path, str(MODEL), str(DATA), str(tmp_path / "few.eff"))


@pytest.mark.parametrize("kind", ["model", "data"])
def test_a_loop_header_at_the_end_does_not_kill_python(kind, tmp_path):
    """iotbx's parser is a segmentation fault on such a text, and the parser of the command line knows it, too."""
    bad = tmp_path / ("bad.cif" if kind == "model" else "bad.cif_pets")
    bad.write_text("data_a\nloop_\n_a\n_b\n")
    files = [str(bad), str(DATA)] if kind == "model" else [str(MODEL), str(bad)]
    code = f"from edtbx_cctbx.programs.compare import run; run({files!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"Sorry: .*\n", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == [bad.name]
