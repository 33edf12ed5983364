"""Files of models with random faults: read as finite numbers, or refused in one line that is not about Python."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libtbx.utils import Sorry

from edtbx_cctbx.model import read_model

CIF = (Path(__file__).resolve().parents[1] / "examples" / "example.cif").read_text()
PDB = """CRYST1   10.000   11.000   12.000  90.00  90.00  90.00 P 21 21 21    4
ATOM      1  N   GLY A   1       1.000   2.000   3.000  0.50 10.00           N
ATOM      2  CA  GLY A   1       2.000   2.000   3.000  1.00 12.00           C
ANISOU    2  CA  GLY A   1      100    200    300     10     20     30       C
END
"""
MMCIF = """data_x
_cell.length_a 10.0
_cell.length_b 11.0
_cell.length_c 12.0
_cell.angle_alpha 90.0
_cell.angle_beta 90.0
_cell.angle_gamma 90.0
_symmetry.space_group_name_H-M 'P 21 21 21'
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.auth_asym_id
_atom_site.auth_seq_id
_atom_site.label_entity_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.B_iso_or_equiv
_atom_site.pdbx_PDB_model_num
ATOM 1 N N . GLY A 1 A 1 1 1 2 3 0.5 10 1
ATOM 2 C CA . GLY A 1 A 1 1 2 2 3 1 12 1
"""
SHELX = """TITL x
CELL 0.0251 6.032 12.343 5.784 90 90 90
ZERR 4 0 0 0 0 0 0
LATT -1
SYMM 0.5-X,-Y,0.5+Z
SYMM -X,0.5+Y,0.5-Z
SFAC C H O1-
UNIT 12 28 8
DFIX 1.25 0.02 C1 O1
FVAR 1.0 0.7
PART 1
O1 3 0.72418 0.08531 0.62683 21.0 0.018
PART 0
C1 1 0.55463 0.14108 0.60083 11.0 0.013 0.02 0.02 =
 0.001 0.001 0.001
AFIX 13
H1 2 0.41839 0.24520 0.34159 11.0 -1.2
AFIX 0
HKLF 4
END
"""
FILES = {"x.cif": CIF, "x.pdb": PDB, "y.cif": MMCIF, "x.res": SHELX}
VALUES = [
    "nan",
    "inf",
    "1e308",
    "-1",
    "0",
    "''",
    "?",
    ".",
    "1e-320",
    "999999999999",
    "1,5",
    "abc",
    "1/2",
    "'",
    "loop_",
    ";",
]
PYTHON = r"Error\b|object at 0x|Traceback|NoneType|index out of range|invalid literal|Internal|ASSERT|memory\(|lexer"


@st.composite
def mutated(draw, text: str) -> bytes:
    """The text with one to three faults: a word replaced, a line left out, twice or cut, columns moved, other encodings."""
    for _ in range(draw(st.integers(1, 3))):
        lines = text.split("\n")
        line = draw(st.integers(0, len(lines) - 1))
        fault = draw(st.sampled_from(["word", "word", "word", "without", "twice", "cut", "shift", "letter"]))
        words = list(re.finditer(r"\S+", lines[line]))
        if fault == "word" and words:
            word = draw(st.sampled_from(words))
            lines[line] = lines[line][: word.start()] + draw(st.sampled_from(VALUES)) + lines[line][word.end() :]
        elif fault == "without":
            del lines[line]
        elif fault == "twice":
            lines.insert(line, lines[line])
        elif fault == "cut":
            lines[line:] = [lines[line][: draw(st.integers(0, len(lines[line])))]]
        elif fault == "shift":
            lines[line] = " " + lines[line]
        elif lines[line]:
            place = draw(st.integers(0, len(lines[line]) - 1))
            lines[line] = lines[line][:place] + draw(st.sampled_from("\x00\t\"'#é=$")) + lines[line][place + 1 :]
        text = "\n".join(lines)
    return text.encode(draw(st.sampled_from(["utf-8"] * 6 + ["latin-1", "utf-16"])), errors="replace")


@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_they_are_read_or_refused_in_one_line(name, tmp_path, data):
    path = tmp_path / name
    path.write_bytes(data.draw(mutated(FILES[name])))
    said = ""
    try:
        structure = read_model(path)
    except Sorry as error:
        said = str(error)
    if said:
        assert str(path) in said
        assert "\n" not in said
        assert not re.search(PYTHON, said)
        return
    assert structure.scatterers().size() > 0
    for scatterer in structure.scatterers():
        assert np.all(np.isfinite([*scatterer.site, scatterer.occupancy, *scatterer.u_star, scatterer.u_iso]))
    assert np.isfinite(structure.unit_cell().volume())


@pytest.mark.parametrize("name", FILES)
def test_without_faults_they_are_read(name, tmp_path):
    (tmp_path / name).write_text(FILES[name])
    assert read_model(tmp_path / name).scatterers().size() >= 2
