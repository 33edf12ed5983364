"""Models, data and parameters that are mutated at random: a program goes on, or ends in one line of plain words."""

import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edtbx_cctbx.programs import compare, refine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MODEL = EXAMPLES / "example.cif"
SHELX = """TITL x
CELL 0.0251 6.032 12.343 5.784 90 90 90
ZERR 4 0 0 0 0 0 0
LATT -1
SYMM 0.5-X,-Y,0.5+Z
SYMM -X,0.5+Y,0.5-Z
SYMM 0.5+X,0.5-Y,-Z
SFAC C H N O
UNIT 12 28 4 8
DFIX 1.25 0.02 C1 O1
SIMU C1 C2 C3
FVAR 1.0 0.7
PART 1
O1 4 0.72418 0.08531 0.62683 21.0 0.018
PART 2
O2 4 0.44291 0.18338 0.76078 -21.0 0.018
PART 0
N1 3 0.64846 0.13847 0.18436 11.0 0.015 0.02 0.02 =
 0.001 0.001 0.001
C1 1 0.55463 0.14108 0.60083 11.0 0.013
C2 1 0.46939 0.16046 0.35496 11.0 0.014
AFIX 13
H1 2 0.41839 0.24520 0.34159 11.0 -1.2
AFIX 0
C3 1 0.26903 0.08919 0.30275 11.0 0.018
HKLF 4
END
"""
PDB = """CRYST1    6.032   12.343    5.784  90.00  90.00  90.00 P 21 21 21    4
ATOM      1  N   ALA A   1       3.911   1.709   1.066  0.50 10.00           N
ATOM      2  CA  ALA A   1       2.831   1.981   2.053  1.00 12.00           C
ANISOU    2  CA  ALA A   1      100    200    300     10     20     30       C
HETATM    3  O   HOH A   2       4.368   1.053   3.626  1.00 12.00           O
END
"""
MMCIF = """data_m
_cell.length_a 6.032
_cell.length_b 12.343
_cell.length_c 5.784
_cell.angle_alpha 90
_cell.angle_beta 90
_cell.angle_gamma 90
_symmetry.space_group_name_H-M 'P 21 21 21'
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_entity_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.B_iso_or_equiv
_atom_site.pdbx_formal_charge
_atom_site.pdbx_PDB_model_num
ATOM 1 N N . ALA A 1 1 3.911 1.709 1.066 0.5 10 ? 1
ATOM 2 C CA . ALA A 1 1 2.831 1.981 2.053 1 12 ? 1
HETATM 3 O O . HOH A 2 . 4.368 1.053 3.626 1 12 1- 1
"""
PHIL = """frames { first = 1
 last = 2 }
solver.name = kinematical
thickness {
 value = 500
}
spread { sigma = 0.05
 refine = False }
"""
VALUES = [
    *(
        "nan",
        "inf",
        "1e308",
        "1e400",
        "-1",
        "0",
        "''",
        "?",
        ".",
        "1e-320",
        "999999999999",
        "0x10",
        "1,5",
        "1(2)",
        "abc",
        "1/2",
    ),
    *(
        "None",
        "Auto",
        "90",
        "'",
        '"',
        "loop_",
        "data_x",
        "_tag",
        ";",
        "#",
        "=",
        "{",
        "}",
        "$x",
        "é",
        "1.5.2",
        "x" * 3000,
    ),
]
ABOUT_PYTHON = re.compile(
    r"[a-z]Error\b|Exception\b|object at 0x|Traceback|NoneType|invalid literal|could not convert|Internal Error|ASSERT|C\+\+"
)


def _value(text: str, place: int, value: str) -> str:
    words = list(re.finditer(r"\S+", text))
    if not words:
        return value
    word = words[place % len(words)]
    return text[: word.start()] + value + text[word.end() :]


def _cut(text: str, place: int, value: str) -> str:
    return text[: place % (len(text) + 1)]


def _row_gone(text: str, place: int, value: str) -> str:
    lines = text.split("\n")
    del lines[place % len(lines)]
    return "\n".join(lines)


def _row_twice(text: str, place: int, value: str) -> str:
    lines = text.split("\n")
    lines.insert(place // 7 % len(lines), lines[place % len(lines)])
    return "\n".join(lines)


def _letter(text: str, place: int, value: str) -> str:
    place %= len(text) + 1
    return text[:place] + value[:1] + text[place + 1 :]


def _scaled_column(text: str, place: int, value: str) -> str:
    rows = [line.split() for line in text.split("\n")]
    width = len(rows[place % len(rows)])
    for row in rows:
        if len(row) == width > 3:
            row[place % width] = value
    return "\n".join(" ".join(row) for row in rows)


def _other_ends(text: str, place: int, value: str) -> str:
    return text.replace("\n", ("\r\n", "\r", " \n", "\n\n")[place % 4])


def _doubled(text: str, place: int, value: str) -> str:
    return text + text


MUTATIONS = (_value, _value, _value, _cut, _row_gone, _row_twice, _letter, _scaled_column, _other_ends, _doubled)
CHANGES = st.lists(
    st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 10**5), st.sampled_from(VALUES)), min_size=1, max_size=4
)
ENCODINGS = st.sampled_from(["utf-8"] * 9 + ["latin-1", "utf-16", "utf-8-sig"])


def ends_well(run: Callable[[list[str]], None], arguments: list[str]) -> None:
    """A dry run ends with status 0, or 1 and one line that is about the input."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            run([*arguments, "--dry-run"])
        except SystemExit as stopped:
            status = stopped.code or 0
    said = err.getvalue()
    if status == 0:
        assert said == ""
        assert "nothing was computed" in out.getvalue()
    else:
        assert status == 1
        assert re.fullmatch(r"Sorry: [^\n]{10,1000}\n", said)
        assert not ABOUT_PYTHON.search(said)


def _mutated(folder: Path, name: str, text: str, changes: list, encoding: str) -> str:
    for change, place, value in changes:
        text = change(text, place, value)
    path = folder / name
    path.write_bytes(text.encode(encoding, errors="replace"))
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """One frame of the example."""
    lines = (EXAMPLES / "example.cif_pets").read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("_refln_zone_axis_id")) + 1
    kept = [*lines[:first], *(line for line in lines[first:] if line.split()[-1:] == ["1"])]
    path = tmp_path_factory.mktemp("data") / "one.cif_pets"
    path.write_text("\n".join(kept) + "\n")
    return str(path)


FEW = {
    "max_examples": 40,
    "deadline": None,
    "derandomize": True,
    "phases": [Phase.explicit, Phase.generate],  # shrinking takes minutes
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
FAST = ["frames.last=1", "beams.g_max=1.0", "nproc=1"]


@pytest.mark.parametrize(
    ("name", "text"), [("m.res", SHELX), ("m.pdb", PDB), ("m.cif", MMCIF)], ids=["shelx", "pdb", "mmcif"]
)
@given(changes=CHANGES, encoding=ENCODINGS)
@settings(**FEW)
def test_models(name, text, changes, encoding, data, tmp_path):
    model = _mutated(tmp_path, name, text, changes, encoding)
    ends_well(refine.run, [model, data, *FAST, f"output.prefix={tmp_path / 'x'}"])
    assert [path.name for path in tmp_path.iterdir()] == [name]


@given(changes=CHANGES, encoding=ENCODINGS)
@settings(**FEW)
def test_parameters(changes, encoding, data, tmp_path):
    parameters = _mutated(tmp_path, "few.eff", PHIL, changes, encoding)
    ends_well(compare.run, [str(MODEL), data, parameters, *FAST, f"output.prefix={tmp_path / 'x'}"])
    assert [path.name for path in tmp_path.iterdir()] == ["few.eff"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "m.res",
            SHELX.replace("FVAR 1.0 0.7", "FVAR 1.0 C1"),
            " 0.62683 21.0 0.018') or above it: something",
        ),
        ("m.res", SHELX.replace("AFIX 13", "AFIX inf"), "line 22 ('AFIX inf'): inf is no finite number"),
        ("m.res", SHELX.replace("SYMM -X,0.5+Y", "SYMM -9X,0.5+Y"), "SYMM -9X,0.5+Y,0.5-Z is no symmetry operation"),
        ("m.res", SHELX.replace("6.032 12.343", "6.032 1e30"), "the cell of the model, 6.032 1000"),
        ("m.cif", MMCIF.replace(" 1 1 3.911", " 1 abc 3.911"), "label_seq_id: 'abc' is no number of a residue"),
        ("m.cif", MMCIF.split("loop_")[0] + ";\n_atom_site.Cartn_x\n;\n", "m.cif"),
        ("m.cif", MMCIF.split("loop_")[0] + "_other\n;\n_atom_site.Cartn_x\n;\n", "has no atoms (no loop with"),
    ],
)
def test_what_is_said(name, text, said, data, tmp_path, capsys):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SystemExit):
        refine.run([str(path), data, *FAST, f"output.prefix={tmp_path / 'x'}", "--dry-run"])
    assert said in capsys.readouterr().err
