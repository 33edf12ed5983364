"""Structure models from files, and their electron form factors."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from cctbx import crystal, xray
from cctbx.array_family import flex
from cctbx.eltbx import tiny_pse, xray_scattering
from libtbx.utils import Sorry
from scipy.spatial.transform import Rotation

from edtbx_cctbx.indexing.model_cell import check_cell, with_model_cell
from edtbx_cctbx.io.cif_pets import read_experiment
from edtbx_cctbx.model_files.structures import read_model
from edtbx_cctbx.structure.form_factors import set_electron_form_factors

MOTT_BETHE = 0.0239337  # m e² / (8π ε0 h²) in Å⁻¹, for s = sin θ/λ

HEAD = """data_x
_cell_length_a 5
_cell_length_b 6
_cell_length_c 7
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 21 21 21'
"""
LOOP = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_U_iso_or_equiv
"""
CIF = HEAD + LOOP + "C1 C 0.1 0.2 0.3 0.01\n"
INS = """TITL x
CELL 0.0251 5 6 7 90 90 90
ZERR 1 0 0 0 0 0 0
LATT -1
SFAC C H
UNIT 2 2
FVAR 1.0
C1 1 0.1 0.2 0.3 11.0 0.02 0.03 =
   0.04 0 0 0
H1 2 0.2 0.2 0.3 11.0 0.05
HKLF 4
END
"""
GAUSSIANS = """SFAC C 0.0893 0.2465 0.2563 1.7100 0.7570 6.4094 1.0487 18.6113 0.3575 =
   0 0 0 0.77 12.01
SFAC H 0.0349 0.5347 0.1201 3.5867 0.1970 12.3471 0.0573 18.9525 0.1195 =
   0 0 0 0.32 1.008"""
PDB = """CRYST1   10.000   11.000   12.000  90.00  90.00  90.00 P 21 21 21    4
ATOM      1  N   GLY A   1       1.000   2.000   3.000  1.00 10.00           N
ATOM      2  CA  GLY A   1       2.000   2.000   3.000  1.00 10.00           C
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
_atom_site.auth_asym_id
_atom_site.auth_seq_id
_atom_site.pdbx_PDB_model_num
ATOM 1 N N . GLY A 1 1 1 2 3 1 10 A 1 1
ATOM 2 C CA . GLY A 1 1 2 2 3 1 10 A 1 1
"""


def read(tmp_path: Path, text: str, **kwargs) -> tuple[xray.structure, str]:
    path, log = tmp_path / "model", io.StringIO()
    path.write_text(text)
    return read_model(path, log=log, **kwargs), log.getvalue()


def structure_of(*types: str) -> xray.structure:
    structure = xray.structure(crystal_symmetry=crystal.symmetry((9, 9, 9, 90, 90, 90), "P 1"))
    for n, scattering_type in enumerate(types):
        structure.add_scatterer(
            xray.scatterer(label=f"A{n}", scattering_type=scattering_type, site=(0.07 * n, 0.1, 0.2), u=0.01)
        )
    return structure


def form_factor(structure: xray.structure, scattering_type: str, s: float) -> float:
    return structure.scattering_type_registry().gaussian(scattering_type).at_stol(s)


def test_small_molecule_cif(tmp_path):
    structure, log = read(tmp_path, CIF)
    assert log == ""
    assert structure.space_group_info().type().number() == 19
    (atom,) = structure.scatterers()
    assert (atom.label, atom.scattering_type, atom.u_iso) == ("C1", "C", 0.01)
    assert structure.get_scattering_table() == "electron"


@pytest.mark.parametrize("text", [PDB, MMCIF])
def test_pdb_and_mmcif(tmp_path, text):
    structure, _ = read(tmp_path, text)
    assert [atom.scattering_type for atom in structure.scatterers()] == ["N", "C"]
    np.testing.assert_allclose(structure.scatterers()[1].site, (0.2, 2 / 11, 0.25))
    assert structure.space_group_info().type().number() == 19
    assert structure.get_scattering_table() == "electron"


def test_atoms_far_away_are_refused(tmp_path):
    assert MMCIF.count(" 3 ") == 2
    with pytest.raises(
        Sorry, match=r"\(0.1 0.1818 2.5e\+08\).* more than a thousand cells away: correct its coordinates"
    ):
        read(tmp_path, MMCIF.replace(" 3 ", " 3e9 "))


@pytest.mark.parametrize(
    ("sfac", "noted"), [("SFAC C H", False), (GAUSSIANS, True), ("SFAC C\nSFAC H", True), (GAUSSIANS.lower(), True)]
)
def test_shelx_with_any_sfac(tmp_path, sfac, noted):
    structure, log = read(tmp_path, INS.replace("SFAC C H", sfac))
    assert [(atom.label, atom.scattering_type) for atom in structure.scatterers()] == [("C1", "C"), ("H1", "H")]
    assert list(structure.use_u_aniso()) == [True, False]
    assert structure.get_scattering_table() == "electron"
    assert ("SFAC" in log) is noted


def test_twins_of_a_shelx_file_are_told_and_moved_atoms_refused(tmp_path):
    log = read(
        tmp_path,
        INS.replace("FVAR", "TWIN -1 0 0 0 -1 0 0 0 -1 2\nBASF 0.3\nMOVE 0 0 0 1\nFVAR").replace("HKLF 4", "HKLF 5"),
    )[1]
    assert [line.split(": ")[1] for line in log.splitlines()] == ["TWIN -1 0 0 0 -1 0 0 0 -1 2", "BASF 0.3", "HKLF 5"]
    assert "line 7: TWIN" in log
    with pytest.raises(Sorry, match=r"line 7: MOVE 1 1 1 -1: atoms are not moved here: apply it to the coordinates"):
        read(tmp_path, INS.replace("FVAR", "MOVE 1 1 1 -1\nFVAR"))


def test_blocks_are_chosen(tmp_path):
    text = "data_global\n_x 1\n" + CIF + CIF.replace("data_x", "data_y").replace("C1 C", "N1 N")
    structure, log = read(tmp_path, text)
    assert structure.scatterers()[0].label == "C1"
    assert "data block x taken, not y" in log
    assert read(tmp_path, text, data_block="y")[0].scatterers()[0].label == "N1"
    for name in ("z", "global"):
        with pytest.raises(Sorry, match="choose from x, y"):
            read(tmp_path, text, data_block=name)
    with pytest.raises(Sorry, match="no data blocks"):
        read(tmp_path, PDB, data_block="x")


def test_operations_win_over_a_contradicting_name(tmp_path):
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y,-z'\n"
    structure, log = read(tmp_path, CIF + operations)
    assert structure.space_group_info().type().number() == 2
    assert "contradicts" in log


def test_atoms_without_displacement_are_told(tmp_path):
    structure, log = read(tmp_path, CIF.replace("0.01", "."))
    assert "U_iso of C1 unknown: 0.0300 A^2 taken" in log
    assert structure.scatterers()[0].u_iso == 0.03


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello\n", "no known format"),
        ("", "empty"),
        ("\0\1", "binary"),
        (HEAD, "no atoms"),
        (HEAD + LOOP, "not a whole CIF"),
        (CIF.rstrip().removesuffix(" 0.01"), "not a whole CIF"),
        (CIF + "_y\n;\nunfinished", "truncated"),
        (CIF.replace("C1 C", "X1 Xx"), "chemical element from H to Cf"),
        (CIF.replace(" 0.1 ", " ? "), "coordinates"),
        (CIF.replace("_cell_length_a 5\n", ""), "no cell"),
        (CIF.replace("_cell_length_a 5\n", "_cell_length_a 0\n"), "zero or negative"),
        (CIF.replace("_cell_length_a 5\n", "_cell_length_a abc\n"), "unit cell"),
        (CIF.replace("P 21 21 21", "Q 3"), "symmetry"),
        (INS.replace("CELL", "REM "), "no cell"),
        (INS.replace("SFAC C H", "SFAC Xx H"), "Xx"),
        (INS.replace("C1 1", "C1 9"), r"line 8: C1 9 .*element 9 of 2 on SFAC"),
        (PDB.partition("\n")[2], "no cell"),
        (PDB.replace("           C\n", "          Xx\n"), "Unknown chemical element"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, says):
    with pytest.raises(Sorry, match=says) as caught:
        read(tmp_path, text)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Sorry, match="No such file"):
        read_model(tmp_path / "none.cif")


def test_form_factor_of_carbon():
    structure = structure_of("C")
    set_electron_form_factors(structure)
    assert form_factor(structure, "C", 0.0) == pytest.approx(2.509, abs=1e-3)  # Å, rest mass: ITC C, 4.3.1.1


@pytest.mark.parametrize("element", ["H", "C", "N", "O", "Na", "Al", "Si", "S", "Cl", "Fe", "Br", "Cs", "Pb"])
def test_table_agrees_with_mott_bethe_from_x_ray_form_factors(element):
    structure = structure_of(element)
    set_electron_form_factors(structure)
    # the X-ray table's plain H is a bonded one, 25 % off; above 1.5 Å⁻¹ the electron table itself is up to 30 % off
    x_ray = xray_scattering.wk1995("Hiso" if element == "H" else element, True).fetch()
    z = tiny_pse.table(element).atomic_number()
    for s in (0.15, 0.3, 0.6, 1.0):
        expected = MOTT_BETHE * (z - x_ray.at_stol(s)) / s**2
        assert form_factor(structure, element, s) == pytest.approx(expected, rel=0.03)


def test_no_scatterer_is_left_with_an_x_ray_table():
    types = {
        "Si4+": "Si",
        "O2-": "O",
        "Na+": "Na",
        "Na1+": "Na",
        "Cl1-": "Cl",
        "N1+": "N",
        "D": "H",
        "H": "H",
        "Si": "Si",
    }
    structure, log = structure_of(*types), io.StringIO()
    assert structure.scattering_type_registry().gaussian("Si").at_stol(0.0) > 13.0  # X-ray, as every reader leaves it
    set_electron_form_factors(structure, log=log)
    neutral = structure_of(*set(types.values()))
    set_electron_form_factors(neutral)
    for scattering_type, element in types.items():
        for s in (0.0, 0.2, 1.0):
            assert form_factor(structure, scattering_type, s) == form_factor(neutral, element, s)
    assert [atom.scattering_type for atom in structure.scatterers()] == list(types)
    assert {line.partition(":")[0] for line in log.getvalue().splitlines()} == set(list(types)[:6])
    assert structure.scattering_type_registry().unassigned_types().size() == 0


@pytest.mark.parametrize("types", [("Si4+",), ("D",), ("C", "O2-")])
def test_the_table_survives_copies_and_selections(types):
    structure = structure_of(*types)
    set_electron_form_factors(structure, log=io.StringIO())
    everything = flex.bool(len(types), True)
    for copy in (structure, structure.deep_copy_scatterers(), structure.select(everything)):
        assert copy.get_scattering_table() == "electron"
        assert copy.scattering_type_registry().unassigned_types().size() == 0
    copy = structure.deep_copy_scatterers()
    copy.add_scatterer(xray.scatterer(label="N9", scattering_type="N", site=(0.5, 0.5, 0.5), u=0.01))
    assert form_factor(copy, "N", 0.0) == pytest.approx(2.2, abs=0.05)
    pickled = pickle.loads(pickle.dumps(structure))
    set_electron_form_factors(pickled, log=io.StringIO())
    assert form_factor(pickled, types[0], 0.0) == form_factor(structure, types[0], 0.0)


@pytest.mark.parametrize("unknown", ["Xx", "Es", "const", ""])
def test_an_unknown_element_is_refused(unknown):
    with pytest.raises(Sorry, match="of atom A1"):
        set_electron_form_factors(structure_of("C", unknown))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "group", "atoms", "aniso", "block"),
    [
        ("albite/albite_jana.cif", "P -1", 13, 0, None),
        ("albite/albite_jana.cif", "P -1", 13, 13, "albite_kinematical"),
        ("cspbbr3/cspbbr3.cif", "P b n m", 4, 4, None),
        ("paracetamol/paracetamol.cif", "P b c a", 20, 0, None),
        ("quartz/quartz_start.cif", "P 32 2 1", 2, 0, None),
        ("silicon/felix_cRED_Si.cif", "F d -3 m :1", 1, 0, None),
        ("urea/urea_jana.cif", "P -4 21 m", 5, 5, None),
        ("urea/urea_jana_model.cif", "P -4 21 m", 5, 5, None),
        ("urea/urea_start.cif", "P -4 21 m", 3, 0, None),
    ],
)
def test_real_models(data_dir, name, group, atoms, aniso, block):
    structure = read_model(data_dir / name, block, log=io.StringIO())
    assert str(structure.space_group_info()) == group
    assert structure.scatterers().size() == atoms
    assert structure.use_u_aniso().count(True) == aniso
    assert structure.use_u_iso().count(True) == atoms - aniso
    assert structure.get_scattering_table() == "electron"


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("albite/albite_jana.cif", "albite/albite.cif_pets"),
        ("cspbbr3/cspbbr3.cif", "cspbbr3/cspbbr3.cif_pets"),
        ("paracetamol/paracetamol.cif", "paracetamol/paracetamol.cif_pets"),
        ("quartz/quartz_start.cif", "quartz/quartz.cif_pets"),
        ("quartz/quartz_start.cif", "quartz_dials/dials_dyn.cif_pets"),
        ("urea/urea_jana.cif", "urea/urea.cif_pets"),
    ],
)
def test_models_go_with_their_data_and_no_other(data_dir, model, data):
    structure = read_model(data_dir / model, log=io.StringIO())
    experiment = read_experiment(data_dir / data)
    changed = with_model_cell(experiment, structure)
    assert changed.cell == structure.unit_cell().parameters()
    turn = Rotation.from_matrix(changed.orientation @ experiment.orientation.T).magnitude()
    assert np.degrees(turn) < 0.2  # albite: the cells of model and data differ by 0.5 %
    with pytest.raises(Sorry, match="% in length"):
        check_cell(structure_of("C"), experiment)


SHELX = """TITL x
CELL 0.0251 6 12 6 90 90 90
ZERR 4 0 0 0 0 0 0
LATT -1
SYMM 0.5-X,-Y,0.5+Z
SFAC C
UNIT 4
FVAR 1.0
C1 1 0.1 0.2 0.3 11.0 0.02
HKLF 4
END
"""


@pytest.mark.parametrize(
    ("changed", "to", "said"),
    [
        ("11.0 0.02", "41.0 0.02", "41.0 is a multiple of free variable 4, and FVAR has 1"),
        ("SYMM 0.5-X", "SYMM 0.77-X", "is no symmetry operation of a crystal"),
    ],
)
def test_what_a_reader_of_cctbx_stumbles_over_is_told_in_words_of_the_file(tmp_path, changed, to, said):
    path = tmp_path / "x.res"
    path.write_text(SHELX)
    read_model(path)
    path.write_text(SHELX.replace(changed, to))
    with pytest.raises(Sorry) as caught:
        read_model(path)
    assert said in str(caught.value)
    assert "Internal Error" not in str(caught.value)
