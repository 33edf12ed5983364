"""Models from files with holes: what is unknown, wrong or twice in them belongs to one atom, and is told."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from cctbx import adptbx, xray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libtbx.utils import Sorry

from edtbx_cctbx.model_files.displacements import SMALLEST_U
from edtbx_cctbx.model_files.structures import read_model

EXAMPLE = (Path(__file__).resolve().parents[1] / "examples" / "example.cif").read_text()
TAGS = re.findall(r"^_atom_site_\w+", EXAMPLE, flags=re.MULTILINE)
ROWS = [line.split() for line in EXAMPLE.splitlines() if line.startswith(("O", "N1", "C", "H")) and "Uiso" in line]
HEAD = EXAMPLE[: EXAMPLE.index(" ".join(ROWS[0][:2]))]
LABELS = [row[0] for row in ROWS]
ANISOTROPIC = (
    "loop_\n"
    + "\n".join(f"_atom_site_aniso_{name}" for name in ("label", "U_11", "U_22", "U_33", "U_12", "U_13", "U_23"))
    + "\nO1 0.021 0.018 0.015 0.001 0.002 -0.001\nC1 0.011 0.012 0.013 0.003 0 0.001\n"
)
PDB = """CRYST1   10.000   11.000   12.000  90.00  90.00  90.00 P 21 21 21    4
ATOM      1  N   GLY A   1       1.000   2.000   3.000  0.50 10.00           N
ATOM      2  CA  GLY A   1       2.000   2.000   3.000  1.00 12.00           C
ANISOU    2  CA  GLY A   1      100    200    300     10     20     30       C
END
"""
MMCIF = """data_m
_cell.length_a 10
_cell.length_b 11
_cell.length_c 12
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
_atom_site.pdbx_PDB_model_num
ATOM 1 N N . GLY A 1 1 1 2 3 0.5 10 1
ATOM 2 C CA . GLY A 1 1 2 2 3 1 12 1
"""
INS = """TITL x
CELL 0.0251 6.032 12.343 5.784 90 90 90
ZERR 4 0 0 0 0 0 0
LATT -1
SYMM 0.5-X,-Y,0.5+Z
SYMM -X,0.5+Y,0.5-Z
SYMM 0.5+X,0.5-Y,-Z
SFAC C H
UNIT 4 4
FVAR 1.0
C1 1 0.1 0.2 0.3 11.0 0.02 0.03 =
   0.04 0.001 0.002 0.003
H1 2 0.2 0.2 0.3 11.0 -1.2
HKLF 4
END
"""


def read(path: Path, text: str | bytes, **kwargs) -> tuple[xray.structure, str]:
    log = io.StringIO()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_model(path, log=log, **kwargs), log.getvalue()


def refused(path: Path, text: str | bytes, **kwargs) -> str:
    with pytest.raises(Sorry) as caught:
        read(path, text, **kwargs)
    said = str(caught.value)
    assert str(path) in said
    assert len(said.splitlines()) == 1
    assert "memory(" not in said
    return said


def with_rows(rows: list[list[str]]) -> str:
    return HEAD + "".join(" ".join(row) + "\n" for row in rows)


def changed(label: str, tag: str, value: str) -> str:
    rows = [list(row) for row in ROWS]
    rows[LABELS.index(label)][TAGS.index(f"_atom_site_{tag}")] = value
    return with_rows(rows)


def values(structure: xray.structure) -> dict[str, tuple]:
    return {
        s.label: (s.site, s.occupancy, s.u_iso if s.flags.use_u_iso() else s.u_star, s.scattering_type)
        for s in structure.scatterers()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, tuple]:
    structure, log = read(tmp_path_factory.mktemp("whole") / "m.cif", with_rows(ROWS))
    assert log == ""
    return values(structure)


KINDS = ("type_symbol", "fract_x", "fract_z", "U_iso_or_equiv", "adp_type", "occupancy")
HOLES = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(KINDS), st.sampled_from("?.")),
    max_size=20,
    unique_by=lambda x: x[:2],
)


VARIED = [[*row[:5], f"{0.011 + 0.001 * n:.3f}", row[6], f"{1.0 - 0.05 * n:.2f}"] for n, row in enumerate(ROWS)]


@given(holes=HOLES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_unknown_values_leave_all_others_alone(holes, tmp_path):
    whole = values(read(tmp_path / "m.cif", with_rows(VARIED))[0])
    rows = [list(row) for row in VARIED]
    for label, kind, sign in holes:
        rows[LABELS.index(label)][TAGS.index(f"_atom_site_{kind}")] = sign
    structure, log = read(tmp_path / "m.cif", with_rows(rows))
    unknown = {kind: {label for label, other, _ in holes if other == kind} for kind in KINDS}
    gone = unknown["fract_x"] | unknown["fract_z"]
    atoms = values(structure)
    assert list(atoms) == [label for label in LABELS if label not in gone]
    for label, (site, occupancy, u, element) in atoms.items():
        expected = whole[label]
        assert site == expected[0]
        assert occupancy == (1.0 if label in unknown["occupancy"] else expected[1])
        assert element == expected[3]
        if label in unknown["U_iso_or_equiv"]:
            assert 0.005 < u < 0.06
        else:
            assert u == expected[2]
    for word, labels in (
        ("without coordinates", gone),
        ("occupancy", unknown["occupancy"] - gone),
        ("U_iso of", unknown["U_iso_or_equiv"] - gone),
        ("element", unknown["type_symbol"] - gone),
    ):
        lines = [line for line in log.splitlines() if word in line and line.startswith(str(tmp_path))]
        lines = [line for line in lines if word != "element" or "of unknown element" in line]
        assert len(lines) == bool(labels)


def test_one_unknown_occupancy_is_one_and_a_zero_stays(tmp_path):
    rows = [list(row) for row in ROWS]
    rows[2][-1], rows[4][-1], rows[5][-1] = "?", "0", "0.25(3)"
    structure, log = read(tmp_path / "m.cif", with_rows(rows))
    assert [s.occupancy for s in structure.scatterers()[2:6]] == [1.0, 1.0, 0.0, 0.25]
    assert "atom of unknown occupancy, 1 taken: N1" in log


def test_a_missing_occupancy_column_is_the_default(tmp_path):
    structure, log = read(
        tmp_path / "m.cif", with_rows([row[:-1] for row in ROWS]).replace("_atom_site_occupancy\n", "")
    )
    assert {s.occupancy for s in structure.scatterers()} == {1.0}
    assert log == ""


def test_starts_of_displacements(tmp_path):
    rows = [list(row) for row in ROWS]
    place = TAGS.index("_atom_site_U_iso_or_equiv")
    for label, value in (("C1", "?"), ("H1", "?"), ("N1", "."), ("H2", "?"), ("C2", "0.020"), ("C3", "0.030(2)")):
        rows[LABELS.index(label)][place] = value
    structure, log = read(tmp_path / "m.cif", with_rows(rows))
    u = {s.label: s.u_iso for s in structure.scatterers()}
    assert u["C1"] == pytest.approx(0.025)  # the mean of C2 and C3
    assert u["H1"] == pytest.approx(1.2 * 0.020)  # on C2
    assert u["N1"] == pytest.approx(np.mean([u[n] for n in u if n not in ("C1", "H1", "N1", "H2")]))  # no other N
    assert u["H2"] == pytest.approx(1.2 * u["N1"])
    assert log.count("\n") == 1
    assert "U_iso of N1, C1, H1 and H2 unknown" in log


def test_no_displacements_at_all_are_told_once(tmp_path):
    structure, log = read(
        tmp_path / "m.cif", with_rows(ROWS).replace("_atom_site_U_iso_or_equiv", "_atom_site_of_no_meaning")
    )
    assert log.count("\n") == 1
    assert "U_iso of O1, O2, N1 and 10 more unknown" in log
    assert {round(s.u_iso, 6) for s in structure.scatterers()} == {0.03, 0.036}


def test_parents_are_searched_across_symmetry(tmp_path):
    rows = [list(row) for row in ROWS]
    hydrogen = rows[LABELS.index("H1")]
    x, y, z = (float(word) for word in hydrogen[2:5])
    hydrogen[2:6] = [f"{0.5 - x:.5f}", f"{-y:.5f}", f"{z - 0.5:.5f}", "?"]
    structure, _ = read(tmp_path / "m.cif", with_rows(rows))
    assert values(structure)["H1"][2] == pytest.approx(1.2 * 0.014)


def test_b_stands_in_for_unknown_u(tmp_path):
    text = with_rows([[*row, "0.9"] for row in ROWS]).replace(
        "_atom_site_occupancy\n", "_atom_site_occupancy\n_atom_site_B_iso_or_equiv\n"
    )
    structure, log = read(tmp_path / "m.cif", text.replace("0.015 Uiso", "? Uiso"))
    assert log == ""
    assert values(structure)["N1"][2] == adptbx.b_as_u(0.9)
    assert values(structure)["O1"][2] == 0.018


@pytest.mark.parametrize(
    ("change", "aniso", "says"),
    [
        (lambda text: text, ["O1", "C1"], ""),
        (lambda text: text.replace("0.015 0.001", "0.015 ?"), ["C1"], "incomplete, isotropic ones taken: O1"),
        (lambda text: text.replace("O1 0.021", "O9 0.021"), ["C1"], "of no atom in the list: O9"),
        (lambda text: text.replace("_U_23", "_U_32"), [], "incomplete, isotropic ones taken: O1 and C1"),
        (lambda text: text + "N1 ? ? ? ? ? ?\n", ["O1", "C1"], ""),
    ],
)
def test_anisotropic_rows(tmp_path, whole, change, aniso, says):
    structure, log = read(tmp_path / "m.cif", with_rows(ROWS) + change(ANISOTROPIC))
    assert [s.label for s in structure.scatterers() if s.flags.use_u_aniso()] == aniso
    assert says in log
    assert bool(says) is bool(log)
    assert all(values(structure)[label] == whole[label] for label in LABELS if label not in ("O1", "C1"))
    if "O1" not in aniso:
        assert values(structure)["O1"] == whole["O1"]


def test_anisotropic_b(tmp_path):
    u = read(tmp_path / "u.cif", with_rows(ROWS) + ANISOTROPIC)[0].scatterers()[0].u_star
    factor = adptbx.u_as_b(1.0)
    as_b = re.sub(r"(?<= )-?[\d.]+", lambda match: repr(float(match[0]) * factor), ANISOTROPIC).replace("_U_", "_B_")
    b = read(tmp_path / "b.cif", with_rows(ROWS) + as_b)[0].scatterers()[0].u_star
    np.testing.assert_allclose(b, u, rtol=1e-12)


@pytest.mark.parametrize(
    ("tag", "value", "says"),
    [
        ("occupancy", "abc", "atom N1: _atom_site_occupancy: 'abc' is no number"),
        ("fract_x", "1/2", "atom N1: _atom_site_fract_x: '1/2' is no number"),
        ("fract_y", "0,5", "is the comma a decimal point"),
        ("fract_z", "nan", "'nan' is no number"),
        ("U_iso_or_equiv", "1e-2x", "'1e-2x' is no number"),
        ("U_iso_or_equiv", "1000", "impossible"),
        ("fract_x", "12345", "no fraction of the cell"),
        ("occupancy", "1e6", "occupancy of 1e+06"),
        ("type_symbol", "Xx", "give a chemical element"),
    ],
)
def test_a_value_that_is_none_is_refused_by_atom_and_name(tmp_path, tag, value, says):
    assert says in refused(tmp_path / "m.cif", changed("N1", tag, value))


@pytest.mark.parametrize("value", ["0.5", ".5", "0.5(1)", "5.0e-1", "+0.5", "0.50(12)", "'0.5'"])
def test_spellings_of_a_number(tmp_path, value):
    assert values(read(tmp_path / "m.cif", changed("N1", "fract_x", value))[0])["N1"][0][0] == 0.5


def test_labels_missing_and_twice(tmp_path):
    text = with_rows([["?", *row[1:]] if n == 3 else ["O1", *row[1:]] if n == 1 else row for n, row in enumerate(ROWS)])
    structure, log = read(tmp_path / "m.cif", text)
    labels = [s.label for s in structure.scatterers()]
    assert len(set(labels)) == len(labels)
    assert labels[:4] == ["O1", "O1B", "N1", "C4"]
    assert "labels that are given twice: the later atoms are called O1B" in log
    assert "without label, named: C4" in log


def test_dummies_are_left_out(tmp_path):
    text = with_rows([[*row, "dum" if row[0] == "C3" else "d"] for row in ROWS])
    structure, log = read(tmp_path / "m.cif", text.replace("_occupancy\n", "_occupancy\n_atom_site_calc_flag\n"))
    assert [s.label for s in structure.scatterers()] == [label for label in LABELS if label != "C3"]
    assert "atoms left out, dummy: C3" in log


def test_an_atom_alone_may_stand_without_loop(tmp_path):
    text = HEAD[: HEAD.rindex("loop_")] + "".join(f"{tag} {word}\n" for tag, word in zip(TAGS, ROWS[0], strict=True))
    (atom,) = read(tmp_path / "m.cif", text)[0].scatterers()
    assert (atom.label, atom.u_iso) == ("O1", 0.018)


def test_names_of_the_newer_dictionary(tmp_path, whole):
    text = with_rows(ROWS).replace("_atom_site_", "_atom_site.").replace("_cell_", "_cell.")
    assert values(read(tmp_path / "m.cif", text)[0]) == whole


def test_occupancies_are_chemical(tmp_path):
    """An atom on an axis has occupancy 1 in CIF and 10.5 in SHELX: the weight of a site is applied once."""
    text = with_rows(ROWS).replace("P 21 21 21", "P 2 2 2")
    text = re.sub(r"loop_\n_space_group_symop.*?(?=loop_)", "", text, flags=re.DOTALL)
    text = text.replace("O1 O 0.72418 0.08531 0.62683", "O1 O 0 0 0.3")
    atom = read(tmp_path / "m.cif", text)[0].scatterers()[0]
    assert (atom.occupancy, atom.multiplicity(), atom.weight()) == (1.0, 2, 0.5)


@pytest.mark.parametrize("u", ["0", "-0.02", "0.0(1)"])
def test_u_iso_that_is_not_positive(tmp_path, whole, u):
    text = changed("C1", "U_iso_or_equiv", u)
    assert "C1 (U_iso" in refused(tmp_path / "m.cif", text)
    structure, log = read(tmp_path / "m.cif", text, non_positive="mend")
    assert values(structure)["C1"][2] == pytest.approx(np.mean([0.014, 0.018]))
    assert all(values(structure)[label] == whole[label] for label in LABELS if label != "C1")
    assert "made positive, in A^2: C1 (U_iso" in log


def test_anisotropic_u_that_is_not_positive(tmp_path):
    text = with_rows(ROWS) + ANISOTROPIC.replace("0.021 0.018 0.015 0.001", "0.021 -0.018 0.015 0.001")
    assert "O1 (smallest principal U -0.018" in refused(tmp_path / "m.cif", text)
    structure, log = read(tmp_path / "m.cif", text, non_positive="mend")
    u_cart = adptbx.u_star_as_u_cart(structure.unit_cell(), structure.scatterers()[0].u_star)
    principal = sorted(adptbx.eigensystem(u_cart).values())
    assert principal[0] == pytest.approx(SMALLEST_U)
    was = adptbx.u_cif_as_u_cart(structure.unit_cell(), (0.021, -0.018, 0.015, 0.001, 0.002, -0.001))
    np.testing.assert_allclose(principal[1:], sorted(adptbx.eigensystem(was).values())[1:], rtol=1e-9)
    assert "O1 (smallest principal U -0.018" in log


def test_a_structure_of_nothing_is_refused(tmp_path):
    assert "occupancy of 0" in refused(tmp_path / "m.cif", with_rows([[*row[:-1], "0"] for row in ROWS]))
    nowhere = with_rows([[*row[:2], "?", *row[3:]] for row in ROWS])
    assert "no atoms with coordinates" in refused(tmp_path / "m.cif", nowhere)


def test_occupancies_out_of_range_are_told(tmp_path):
    _, log = read(tmp_path / "m.cif", changed("N1", "occupancy", "1.5"))
    assert "not between 0 and 1: N1 (1.5)" in log


@pytest.mark.parametrize(
    ("text", "cell", "group"),
    [
        (EXAMPLE.replace("alpha 90", "alpha 88.93"), (6.032, 12.343, 5.784, 90, 90, 90), "P 21 21 21"),
        (PDB.replace("12.000  90.00", "12.000  91.50"), (10, 11, 12, 90, 90, 90), "P 21 21 21"),
        (MMCIF.replace("alpha 90", "alpha 88"), (10, 11, 12, 90, 90, 90), "P 21 21 21"),
        (INS.replace("5.784 90", "5.784 88.5"), (6.032, 12.343, 5.784, 90, 90, 90), "P 21 21 21"),
        (
            EXAMPLE.replace("P 21 21 21", "P 41 3 2").replace("_b 12.343", "_b 6.2").replace("_c 5.784", "_c 5.9"),
            None,
            "P 41 3 2",
        ),
    ],
)
def test_a_cell_that_misses_its_symmetry(tmp_path, text, cell, group):
    if "P 41" in text:
        text = re.sub(r"loop_\n_space_group_symop.*?(?=loop_)", "", text, flags=re.DOTALL)
    structure, log = read(tmp_path / "m", text)
    parameters = structure.unit_cell().parameters()
    if cell is None:  # the mean square of the lengths
        cell = (*[np.sqrt(np.mean(np.square([6.032, 6.2, 5.9])))] * 3, 90, 90, 90)
    np.testing.assert_allclose(parameters, cell, rtol=2e-4)
    assert structure.space_group().is_compatible_unit_cell(structure.unit_cell(), 1e-6, 1e-5)
    assert str(structure.space_group_info()) == group
    assert "misses the symmetry" in log
    assert " ".join(f"{x:.3f}" for x in parameters) in log
    assert "misses the symmetry" in refused(tmp_path / "m", text, cell_tolerance=0.001)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (with_rows(ROWS) + ANISOTROPIC, ("alpha 90", "alpha 88.93")),
        (PDB, ("12.000  90.00", "12.000  91.50")),
        (INS, ("5.784 90", "5.784 88.5")),
    ],
)
def test_fractions_and_u_cif_stay_in_a_symmetrised_cell(tmp_path, good, bad):
    def fractional(text: str) -> np.ndarray:
        structure = read(tmp_path / "m", text)[0]
        u = [
            adptbx.u_star_as_u_cif(structure.unit_cell(), s.u_star)
            for s in structure.scatterers()
            if s.flags.use_u_aniso()
        ]
        assert u
        return np.concatenate([np.ravel(u), structure.sites_frac().as_double().as_numpy_array()])

    if good is PDB:  # Cartesian: of the cell that the file has
        triclinic = good.replace(*bad).replace("P 21 21 21", "P 1       ")
        np.testing.assert_allclose(fractional(good.replace(*bad)), fractional(triclinic), rtol=1e-9, atol=1e-12)
    else:
        np.testing.assert_allclose(fractional(good.replace(*bad)), fractional(good), rtol=1e-6, atol=1e-9)


def test_a_cell_far_off_its_symmetry_is_refused_with_numbers(tmp_path):
    said = refused(tmp_path / "m.cif", EXAMPLE.replace("alpha 90", "alpha 80"))
    assert "6.032 12.343 5.784 80.000 90.000 90.000" in said
    assert "10.00°" in said
    read(tmp_path / "m.cif", EXAMPLE.replace("alpha 90", "alpha 80"), cell_tolerance=0.5)


def test_cell_parameters_that_symmetry_fixes_may_be_unknown(tmp_path):
    structure, _ = read(
        tmp_path / "m.cif", EXAMPLE.replace("alpha 90", "alpha ?").replace("_cell_angle_gamma 90\n", "")
    )
    assert structure.unit_cell().parameters()[3:] == (90, 90, 90)
    without_c = EXAMPLE.replace("_cell_length_c 5.784", "_cell_length_c ?")
    assert "no cell (_cell_length_c" in refused(tmp_path / "m.cif", without_c)


@pytest.mark.parametrize(
    ("symbol", "parameters", "group", "cell"),
    [
        ("P 21", "10.000   11.000   12.000  88.50  97.00  90.00", "P 1 21 1", (10, 11, 12, 90, 97, 90)),
        ("H 3", "10.000   10.200   12.000  90.00  90.00 119.00", "R 3 :H", (10.152, 10.152, 12, 90, 90, 120)),
    ],
)
def test_settings_of_pdb_in_a_cell_that_misses_its_symmetry(tmp_path, symbol, parameters, group, cell):
    text = PDB.replace("P 21 21 21", f"{symbol:10s}").replace(
        "10.000   11.000   12.000  90.00  90.00  90.00", parameters
    )
    structure, _ = read(tmp_path / "m", text)
    assert str(structure.space_group_info()) == group
    np.testing.assert_allclose(structure.unit_cell().parameters(), cell, rtol=1e-3)


def test_symmetry_that_is_unknown_in_part(tmp_path):
    text = with_rows(ROWS)
    assert "1 of the 4 values" in refused(tmp_path / "m", text.replace("'-x, 1/2+y, 1/2-z'", "?"))
    bare = re.sub(r"loop_\n_space_group_symop.*?(?=loop_)", "", text, flags=re.DOTALL)
    structure, log = read(tmp_path / "m", bare.replace("'P 21 21 21'", "'Q 21'\n_space_group_IT_number 19"))
    assert str(structure.space_group_info()) == "P 21 21 21"
    assert "the space group Q 21 is in no list; 19 taken" in log
    assert "No symmetry" in refused(tmp_path / "m", bare.replace("'P 21 21 21'", "?"))


@pytest.mark.parametrize(
    ("old", "new", "expected", "says"),
    [
        ("  0.50 10.00", "       10.00", (1.0, 10.0), "unknown occupancy, 1 taken: N GLY A 1"),
        ("  0.50 10.00", "  0.50      ", (0.5, 1 / 3 * adptbx.u_as_b(0.06)), "U_iso of N GLY A 1 unknown"),
        ("   1.000   2.000   3.000  0.50", "           2.000   3.000  0.50", None, "without coordinates: N GLY A 1"),
    ],
)
def test_blank_columns_of_pdb(tmp_path, old, new, expected, says):
    structure, log = read(tmp_path / "m.pdb", PDB.replace(old, new, 1))
    assert says in log
    assert log.count("\n") == 1
    assert structure.scatterers()[-1].occupancy == 1.0
    assert structure.scatterers()[-1].flags.use_u_aniso()
    if expected is None:
        assert structure.scatterers().size() == 1
    else:
        atom = structure.scatterers()[0]
        assert (atom.occupancy, adptbx.u_as_b(atom.u_iso)) == pytest.approx(expected)


def test_pdb_without_space_group_zero_b_and_models(tmp_path):
    assert "space group" in refused(tmp_path / "m", PDB.replace("P 21 21 21", " " * 10))
    assert "N GLY A 1 (U_iso 0)" in refused(tmp_path / "m", PDB.replace("0.50 10.00", "0.50  0.00"))
    atoms = "".join(f"{line}\n" for line in PDB.splitlines()[1:4])
    two = PDB.splitlines()[0] + "\n" + "".join(f"MODEL        {n}\n{atoms}ENDMDL\n" for n in (1, 2))
    structure, log = read(tmp_path / "m", two)
    assert structure.scatterers().size() == 2
    assert "2 models; the first is taken" in log


@pytest.mark.parametrize(
    ("old", "new", "expected", "says"),
    [
        ("3 0.5 10", "3 ? 10", (1.0, 10.0), "unknown occupancy, 1 taken: N"),
        ("3 0.5 10", "3 0.5 .", (0.5, 12.0), "U_iso of N GLY A 1 unknown"),
        ("1 1 2 3 0.5", "1 ? 2 3 0.5", None, "without coordinates: N"),
        ("_atom_site.occupancy", "_atom_site.no_meaning", (1.0, 10.0), ""),
        ("0.5 10 1\n", "0.5 10 1\nATOM 3 N N . GLY A 1 1 1 2 3 0.5 10 2\n", (0.5, 10.0), "2 models"),
    ],
)
def test_unknown_values_of_mmcif(tmp_path, old, new, expected, says):
    structure, log = read(tmp_path / "m", MMCIF.replace(old, new, 1))
    assert says in log
    assert log.count("\n") == bool(says)
    last = structure.scatterers()[-1]
    assert (last.occupancy, adptbx.u_as_b(last.u_iso)) == pytest.approx((1.0, 12.0))
    assert structure.scatterers().size() == (1 if expected is None else 2)
    if expected is not None:
        atom = structure.scatterers()[0]
        assert (atom.occupancy, adptbx.u_as_b(atom.u_iso)) == pytest.approx(expected)


def test_mmcif_refuses_words_for_numbers(tmp_path):
    assert "atom N: _atom_site.occupancy: 'abc' is no number" in refused(
        tmp_path / "m", MMCIF.replace("3 0.5", "3 abc")
    )


@pytest.mark.parametrize("ion", ["Na+", "NA1+", "O2-", "O-2", "N1+"])
@pytest.mark.parametrize("gaussians", ["", " 0.1 0.2 0.3 =\n 0.4 0.5 0 0 = ! more\n 0 0 0 1 12"])
def test_ions_on_sfac(tmp_path, ion, gaussians):
    """The ion stands between carbon and hydrogen, and atoms count on it."""
    sfac = f"SFAC C{gaussians}\nSFAC {ion}{gaussians}\nSFAC H{gaussians}" if gaussians else f"SFAC C {ion} H"
    ins = INS.replace("SFAC C H", sfac).replace("H1 2", "X1 2 0.3 0.3 0.3 11.0 0.02\nH1 3")
    structure, log = read(tmp_path / "m.res", ins)
    element = re.match("[A-Za-z]+", ion)[0].capitalize()
    assert [s.scattering_type for s in structure.scatterers()] == ["C", element, "H"]
    assert f"the form factors of the neutral atoms stand in for {ion} on SFAC" in log


def test_riding_displacements_of_shelx(tmp_path):
    structure, _ = read(tmp_path / "m.res", INS)
    carbon, hydrogen = structure.scatterers()
    assert hydrogen.u_iso == pytest.approx(1.2 * carbon.u_iso_or_equiv(structure.unit_cell()))
    assert "none before it" in refused(tmp_path / "m.res", re.sub(r"C1 1.*?\n.*?\n", "", INS))
    assert "H1 (U_iso -0.05)" in refused(tmp_path / "m.res", INS.replace("-1.2", "-0.05"))


def test_lines_of_a_shelx_file_are_counted_as_they_are(tmp_path):
    ins = INS.replace("SFAC C H", "SFAC C 0.1 0.2 =\n 0.3 0.4\nSFAC H 0.1 0.2 =\n 0.3 0.4").replace(
        "0.02 0.03 =", "0.02 ="
    )
    line = next(n for n, text in enumerate(ins.splitlines(), 1) if text.startswith("C1"))
    assert f"at line {line + 1}" in refused(tmp_path / "m.res", ins)


def test_silence_without_a_log(tmp_path, capsys):
    (tmp_path / "m.cif").write_text(changed("N1", "occupancy", "?"))
    read_model(tmp_path / "m.cif")
    assert capsys.readouterr() == ("", "")
