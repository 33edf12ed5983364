"""Constraints and restraints of SHELX files, from the file to the refined structure."""

import io
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from libtbx.utils import Sorry
from scipy.spatial.transform import Rotation

from edtbx_cctbx import read_model
from edtbx_cctbx.programs import refine as refine_program
from edtbx_cctbx.refinement.model import RefinementModel
from edtbx_cctbx.refinement.settings import Refined
from edtbx_cctbx.refinement.shelx_instructions import shelx_model, with_instructions

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DATA = str(EXAMPLES / "example.cif_pets")


def alanine(instructions="DFIX 1.53 0.02 C1 C2 C2 C3\nEADP O1 O2\nSIMU 0.02 C1 C2 C3", methyl="AFIX 137"):
    """The example structure as SHELX has it, hydrogen with AFIX."""
    structure = read_model(EXAMPLES / "example.cif", log=io.StringIO())
    atoms = {scatterer.label: scatterer for scatterer in structure.scatterers()}
    cell = structure.unit_cell().parameters()

    def line(label, kind, u):
        x, y, z = atoms[label].site
        return f"{label:4} {kind} {x:.5f} {y:.5f} {z:.5f} 11.0 {u}"

    def group(instruction, labels, u):
        return [instruction, *(line(label, 2, u) for label in labels), "AFIX 0"]

    return "\n".join(
        [
            "TITL alanine",
            "CELL 0.0251 " + " ".join(f"{number:.4f}" for number in cell),
            "ZERR 4 0 0 0 0 0 0",
            "LATT -1",
            "SYMM 0.5-X,-Y,0.5+Z",
            "SYMM -X,0.5+Y,0.5-Z",
            "SYMM 0.5+X,0.5-Y,-Z",
            "SFAC C H N O",
            "UNIT 12 28 4 8",
            instructions,
            "FVAR 1.0",
            line("O1", 4, 0.018),
            line("O2", 4, 0.018),
            line("N1", 3, 0.015),
            *group("AFIX 137", ["H2", "H3", "H4"], -1.5),
            line("C1", 1, 0.013),
            line("C2", 1, 0.014),
            *group("AFIX 13", ["H1"], -1.2),
            line("C3", 1, 0.018),
            *group(methyl, ["H5", "H6", "H7"], -1.5),
            "HKLF 4",
            "END",
            "",
        ]
    )


def written(tmp_path, **kwds):
    path = tmp_path / "alanine.ins"
    path.write_text(alanine(**kwds))
    return path


def test_constraints_hold_at_the_distances_of_nuclei(tmp_path):
    path = written(tmp_path)
    model = shelx_model(path, read_model(path)).copy()
    rp = model.reparametrisation(Refined())
    # 6 sites, 5 displacements of their own, the turns of two groups
    assert rp.jacobian_transpose_matching_grad_fc().n_rows == 18 + 5 + 2
    atoms = {scatterer.label: scatterer for scatterer in model.structure.scatterers()}
    distance = model.structure.unit_cell().distance
    assert distance(atoms["N1"].site, atoms["H3"].site) == pytest.approx(1.03)
    assert distance(atoms["C2"].site, atoms["H1"].site) == pytest.approx(1.09)
    assert atoms["H5"].u_iso == pytest.approx(1.5 * atoms["C3"].u_iso)


def test_a_distance_of_the_file_is_kept(tmp_path):
    path = written(tmp_path, methyl="AFIX 137 0.98")
    model = shelx_model(path, read_model(path)).copy()
    model.reparametrisation(Refined())
    atoms = {scatterer.label: scatterer for scatterer in model.structure.scatterers()}
    assert model.structure.unit_cell().distance(atoms["C3"].site, atoms["H5"].site) == pytest.approx(0.98)


def test_what_a_file_gives_can_be_pickled(tmp_path):
    structure = pickle.loads(pickle.dumps(read_model(written(tmp_path))))
    assert [scatterer.label for scatterer in structure.scatterers()][:3] == ["O1", "O2", "N1"]


def test_files_without_constraints_have_none(tmp_path):
    assert shelx_model(EXAMPLES / "example.cif", None) is None


def test_refinement_keeps_them(tmp_path, capsys):
    path = written(tmp_path)
    few = [
        "frames.last=4",
        "nproc=2",
        "refinement.cycles=3",
        "accuracy.tolerance=2",
        f"output.prefix={tmp_path / 'r'}",
    ]
    refine_program.run([str(path), DATA, *few])
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["least_squares"]["restraints"] == 4  # two distances, two pairs of displacements
    assert found["dynamical"]["r_obs"] < found["kinematical"]["r_obs"]
    refined = read_model(tmp_path / "r.cif", log=io.StringIO())
    atoms = {scatterer.label: scatterer for scatterer in refined.scatterers()}
    assert atoms["O1"].u_iso == pytest.approx(atoms["O2"].u_iso, abs=1e-3)
    lengths = [refined.unit_cell().distance(atoms[a].site, atoms[b].site) for a, b in (("C1", "C2"), ("C2", "C3"))]
    assert lengths == pytest.approx([1.53, 1.53], abs=0.03)
    assert "Constraints of the model: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kwds", "said"),
    [({"instructions": "EADP O1 O9"}, "O9"), ({"methyl": "AFIX 13"}, "constraints and restraints cannot be read")],
)
def test_what_cannot_be_read_is_told(kwds, said, tmp_path):
    path = written(tmp_path, **kwds)
    with pytest.raises(Sorry, match=said):
        shelx_model(path, read_model(path))


def example():
    return RefinementModel.of(read_model(EXAMPLES / "example.cif", log=io.StringIO()), riding=True)


def misfits(model):
    """Deltas and weights of all restraints where the structure stands."""
    rp = model.reparametrisation(Refined())
    linearised = model.restraints.build_linearised_eqns(model.structure, rp.parameter_map())
    return list(linearised.deltas), list(linearised.weights)


def test_instructions_mean_beside_a_cif_what_they_mean_in_a_shelx_file(tmp_path):
    lines = [
        "DFIX 1.50 0.02 C1 C2 C2 C3",
        "simu 0.02 C1 C2 C3",
        "EADP O1 O2",
        "FLAT 0.1 C1 O1 O2 C2",
    ]
    path = written(tmp_path, instructions="\n".join(line.upper() for line in lines))
    in_file, beside = shelx_model(path, read_model(path)).copy(), with_instructions(example(), lines).copy()
    atoms = {scatterer.label: scatterer for scatterer in in_file.structure.scatterers()}
    for scatterer in beside.structure.scatterers():  # SHELX files hold five digits
        scatterer.site, scatterer.u_iso = atoms[scatterer.label].site, atoms[scatterer.label].u_iso
    for mine, theirs in zip(misfits(beside), misfits(in_file), strict=True):
        assert sorted(mine) == pytest.approx(sorted(theirs), rel=1e-3, abs=1e-9)
    assert len(misfits(beside)[0]) > 5


@pytest.mark.parametrize("spelt", [str.upper, str.lower])
def test_instructions_join_those_of_a_shelx_file(tmp_path, spelt):
    path, lines = written(tmp_path), ["DFIX 1.50 0.02 C1 O1", "EADP C1 C2"]
    path.write_text(path.read_text().replace("FVAR", spelt("FVAR")).replace("SFAC", spelt("SFAC")))
    without, model = (shelx_model(path, read_model(path), more).copy() for more in ([], lines))
    assert len(misfits(model)[0]) == len(misfits(without)[0]) + 1
    assert len(model.constraints) == len(without.constraints) + 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("DFIX 1.5 C1 C99", "no atom C99"),
        ("AFIX 137", "give one of DFIX"),
        ("DFIX", "give one of DFIX"),
        ("CHIV 2.5 C2", "give one of DFIX"),
        ("DFIX -2.5 C1 C2", "a distance must be > 0"),
        ("FLAT C1 C2 C3", "four atoms"),
    ],
)
def test_an_instruction_that_means_nothing_is_told(line, said):
    with pytest.raises(Sorry, match=said):
        with_instructions(example(), [line])


def test_instructions_come_from_the_command_line(tmp_path):
    few = [
        "frames.last=4",
        "nproc=2",
        "refinement.cycles=2",
        "accuracy.tolerance=2",
        f"output.prefix={tmp_path / 'r'}",
    ]
    lines = ["refinement.instruction=DFIX 1.60 0.001 C1 C2", "refinement.instruction=EADP O1 O2"]
    refine_program.run([str(EXAMPLES / "example.cif"), DATA, *few, *lines, "refinement.anisotropic=none"])
    assert json.loads((tmp_path / "r.json").read_text())["least_squares"]["restraints"] == 1
    refined = read_model(tmp_path / "r.cif", log=io.StringIO())
    atoms = {scatterer.label: scatterer for scatterer in refined.scatterers()}
    assert refined.unit_cell().distance(atoms["C1"].site, atoms["C2"].site) == pytest.approx(1.60, abs=0.01)
    assert atoms["O1"].u_iso == pytest.approx(atoms["O2"].u_iso, abs=1e-4)


def test_atoms_fixed_in_a_file_stay_where_they_are(tmp_path):
    path = written(tmp_path)
    text = path.read_text()
    x, y, z = read_model(path).scatterers()[0].site
    fixed = f"O1   4 {10 + x:.5f} {10 + y:.5f} {10 + z:.5f} 11.0 0.018"
    path.write_text(re.sub(r"^O1 .*$", fixed, text, flags=re.MULTILINE))
    model = shelx_model(path, read_model(path)).copy()
    assert model.fixed == {0}
    assert model.structure.scatterers()[0].site == pytest.approx((x, y, z), abs=1e-5)
    rp = model.reparametrisation(Refined())
    assert rp.jacobian_transpose_matching_grad_fc().n_rows == 15 + 5 + 2


def test_hydrogen_is_not_placed_in_a_model_with_constraints(tmp_path, capsys):
    path = written(tmp_path)
    with pytest.raises(SystemExit):
        refine_program.run([str(path), DATA, "refinement.place_hydrogens=True", f"output.prefix={tmp_path / 'r'}"])
    assert "constraints or restraints of its own" in capsys.readouterr().err


def test_hydrogen_of_two_conformers_on_one_atom_rides_with_its_own(tmp_path):
    text = re.sub(r"AFIX \d+\n", "", alanine(instructions="SIMU 0.02 C1 C2 C3"))
    first = re.findall(r"^H[567] .*$", text, flags=re.MULTILINE)
    turned = read_model(EXAMPLES / "example.cif", log=io.StringIO())
    axis = _turn_about(turned, "C2", "C3", 60.0)
    second = [
        f"H{n + 8} 2 {' '.join(f'{x:.5f}' for x in axis(label))} 10.5 0.035"
        for n, label in enumerate(("H5", "H6", "H7"))
    ]
    disordered = ["PART 1", *(line.replace("11.0", "10.5") for line in first), "PART 2", *second, "PART 0"]
    for line in first:
        text = text.replace(line + "\n", "")
    path = tmp_path / "x.res"
    path.write_text(text.replace("HKLF 4", "\n".join([*disordered, "HKLF 4"])))
    structure = read_model(path)
    model = shelx_model(path, structure)
    label = [scatterer.label for scatterer in model.structure.scatterers()]
    riding = [sorted(label[n] for n in c.constrained_site_indices) for c in model.constraints if hasattr(c, "pivot")]
    assert ["H5", "H6", "H7"] in riding
    assert ["H10", "H8", "H9"] in riding


def _turn_about(structure, start, end, degrees):
    """Fractional coordinates of an atom, turned about a bond."""
    atoms = {scatterer.label: scatterer.site for scatterer in structure.scatterers()}
    cell = structure.unit_cell()
    bond = np.subtract(cell.orthogonalize(atoms[end]), cell.orthogonalize(atoms[start]))
    turn = Rotation.from_rotvec(np.radians(degrees) * bond / np.linalg.norm(bond)).as_matrix()

    def turned(label):
        arm = np.subtract(cell.orthogonalize(atoms[label]), cell.orthogonalize(atoms[end]))
        return cell.fractionalize(tuple(turn @ arm + cell.orthogonalize(atoms[end])))

    return turned


def test_an_afix_behind_the_wrong_atom_is_told_with_its_line(tmp_path):
    text = re.sub(r"AFIX 13\n(H1 .*\n)AFIX 0\n(C3 .*\n)", r"\2AFIX 13\n\1AFIX 0\n", alanine(methyl="AFIX 0"))
    path = tmp_path / "x.res"
    path.write_text(text)
    with pytest.raises(Sorry, match=r"x\.res, line \d+: H1 .*does not fit the bonds and PARTs of C3"):
        shelx_model(path, read_model(path))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (" 11.0 0.018", " 31.0 0.018", r"line 12: O1 .*31\.0 is a multiple of free variable 3, and FVAR has 1"),
        ("O1   4", "O1   5", r"line 12: O1 .*element 5 of 4 on SFAC \(C H N O\)"),
        ("O2   4", "O1   4", r"line 13: O1 .*line 12 has an atom O1, too"),
        (" 11.0 0.018", " inf 0.018", r"line 12 \('O1 .*inf is no finite number"),
        ("O1   4", "FROB 4 ?", r"line 12: FROB .*neither an instruction of SHELX nor an atom"),
    ],
)
def test_an_atom_that_cannot_be_read_is_told_with_its_line(old, new, said, tmp_path):
    text = alanine(instructions="REM")
    assert old in text
    path = tmp_path / "x.res"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(Sorry, match=said):
        read_model(path)
