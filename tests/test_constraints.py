"""What SHELX files and named occupancies ask for holds when parameters move; what cannot hold is refused with its line."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import iotbx.cif
import numpy as np
import pytest
from cctbx.array_family import flex
from libtbx.utils import Sorry
from scitbx.lstbx import normal_eqns_solving
from test_shelx_model import DATA, EXAMPLES, alanine
from test_target import experiment_for, nuisance_for, simulated, target_for

from edtbx.execution.progress import SILENT, Reporter
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx_cctbx import read_model
from edtbx_cctbx.constraints.determined import is_singular, undetermined
from edtbx_cctbx.constraints.linear import null_space
from edtbx_cctbx.constraints.occupancies import OccupancyGroup, parse_occupancies
from edtbx_cctbx.programs import refine as refine_program
from edtbx_cctbx.refinement.model import RefinementModel, make_anisotropic
from edtbx_cctbx.refinement.parameters import StructureParameters
from edtbx_cctbx.refinement.preparation import odd_occupancies, prepared
from edtbx_cctbx.refinement.settings import Refined, RefinementSettings
from edtbx_cctbx.refinement.shelx_instructions import shelx_model, with_instructions
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls
from edtbx_cctbx.targets.theories import KinematicalTarget

MIXED = "{0} 21.0 0.015\nC9 1 {1} -21.0 0.015"


class Told(Reporter):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def shelx(tmp_path, *changes, instructions="", methyl="AFIX 137", riding=True, log=None):
    """The model of a SHELX file, in which texts were replaced."""
    text = alanine(instructions=instructions or "REM", methyl=methyl)
    for old, new in changes:
        assert re.search(old, text, flags=re.MULTILINE), old
        text = re.sub(old, new, text, count=1, flags=re.MULTILINE)
    path = tmp_path / "changed.ins"
    path.write_text(text)
    return shelx_model(path, read_model(path, log=io.StringIO()), riding=riding, log=log)


def mixed_site(first="21.0", second="-21.0"):
    """N1 shares its site with another atom, by a free variable of 0.8."""
    return (
        (r"^FVAR 1\.0", "FVAR 1.0 0.8"),
        (r"^N1   3 (\S+ \S+ \S+) 11.0 (\S+)", rf"N1 3 \1 {first} \2\nAFIX 0\nC9 1 \1 {second} \2"),
        (r"^AFIX 137\n(H2.*\n)(H3.*\n)(H4.*\n)AFIX 0\n", r"\1\2\3"),
    )


def moved(model, refined=None, size=0.02):
    """The structure after all parameters have moved at random."""
    rp = model.reparametrisation(refined or Refined())
    shifts = np.random.default_rng(3).normal(size=rp.n_independents) * size
    jacobian = rp.jacobian_transpose_matching_grad_fc().as_dense_matrix().as_numpy_array()
    assert jacobian.shape[0] == rp.n_independents
    rp.apply_shifts(flex.double(shifts / np.abs(jacobian).max(axis=1)))
    rp.linearise()
    rp.store()
    return {scatterer.label: scatterer for scatterer in model.structure.scatterers()}


def cif(tmp_path, *changes):
    text = (EXAMPLES / "example.cif").read_text()
    for old, new in changes:
        assert re.search(old, text, flags=re.MULTILINE), old
        text = re.sub(old, new, text, count=1, flags=re.MULTILINE)
    path = tmp_path / "changed.cif"
    path.write_text(text)
    return path


def two_on_one_site(tmp_path, first=0.8, second=0.2):
    path = cif(tmp_path, (r"^N1 N (.*) 1$", rf"N1 N \1 {first}\nC9 C \1 {second}"))
    return path, read_model(path, log=io.StringIO())


def test_a_mixed_site_of_a_shelx_file_holds_together(tmp_path):
    model = shelx(tmp_path, *mixed_site(), instructions="EXYZ N1 C9\nEADP N1 C9").copy()
    before = {s.label: s.site for s in model.structure.scatterers()}
    atoms = moved(model)
    assert atoms["C9"].site == atoms["N1"].site != before["N1"]
    assert atoms["C9"].u_iso == atoms["N1"].u_iso
    assert atoms["C9"].occupancy + atoms["N1"].occupancy == pytest.approx(1.0, abs=1e-12)
    assert abs(atoms["N1"].occupancy - 0.8) > 1e-4
    assert atoms["O1"].occupancy == 1.0
    make_anisotropic(model)
    atoms = moved(model)
    assert atoms["C9"].u_star == atoms["N1"].u_star


def test_atoms_on_one_site_of_any_file_hold_together(tmp_path):
    _, structure = two_on_one_site(tmp_path)
    model = RefinementModel.of(structure, riding=True)
    assert "N1 and C9 are on one site" in model.notes[0]
    atoms = moved(model)
    assert atoms["C9"].site == atoms["N1"].site
    assert atoms["C9"].u_iso == atoms["N1"].u_iso
    assert (atoms["N1"].occupancy, atoms["C9"].occupancy) == (0.8, 0.2)
    # hydrogen rides as if the second atom were not there
    plain = RefinementModel.of(read_model(EXAMPLES / "example.cif", log=io.StringIO()), riding=True)
    assert len(model.constraints) == len(plain.constraints) + 2


def test_atoms_on_one_site_may_be_images_of_each_other(tmp_path):
    image = r"N1 N \1 \2 \3 \4 Uiso 0.8\nC9 C 1.14846 0.36153 -0.18436 \4 Uiso 0.2"
    path = cif(tmp_path, (r"^N1 N\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+) Uiso 1$", image))
    model = RefinementModel.of(read_model(path, log=io.StringIO()), riding=False)
    atoms = moved(model)
    assert atoms["C9"].site == atoms["N1"].site


def test_two_whole_atoms_on_one_site_are_refused(tmp_path):
    _, structure = two_on_one_site(tmp_path, 1, 1)
    with pytest.raises(Sorry, match="N1 and C9 are on one site"):
        RefinementModel.of(structure, riding=True)


O1 = r"^O1   4 (\S+) (\S+) (\S+) 11.0 (\S+)"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (r"O1   4 ten1 \2 \3 11.0 \4", lambda a: a.site[0]),
        (r"O1   4 \1 ten2 \3 11.0 \4", lambda a: a.site[1]),
        (r"O1   4 \1 \2 ten3 11.0 \4", lambda a: a.site[2]),
        (r"O1   4 \1 \2 \3 11.0 ten4", lambda a: a.u_iso),
        (r"O1   4 \1 \2 \3 10.7 \4", lambda a: a.occupancy),
    ],
)
def test_single_parameters_that_are_fixed_stay(tmp_path, change, same):
    given = re.search(O1, alanine(), flags=re.MULTILINE)
    change = re.sub(r"ten(\d)", lambda match: f"{10.0 + float(given.group(int(match.group(1)))):.5f}", change)
    free, model = shelx(tmp_path).copy(), shelx(tmp_path, (O1, change)).copy()
    before = same(model.structure.scatterers()[0])
    atoms = moved(model)
    assert same(atoms["O1"]) == before
    fewer = free.reparametrisation(Refined()).n_independents - model.reparametrisation(Refined()).n_independents
    assert fewer == (1 if "11.0" in change else 0)


def test_a_fixed_displacement_stays_isotropic(tmp_path):
    model = shelx(tmp_path, (O1, r"O1   4 \1 \2 \3 11.0 10.02")).copy()
    make_anisotropic(model)
    atoms = {s.label: s for s in model.structure.scatterers()}
    assert atoms["O1"].flags.use_u_iso()
    assert atoms["O2"].flags.use_u_aniso()


def test_free_variables_join_coordinates_and_displacements(tmp_path):
    model = shelx(
        tmp_path,
        (r"^FVAR 1\.0", "FVAR 1.0 0.4 0.018"),
        (O1, r"O1   4 20.5 \2 \3 11.0 31.0"),
        (r"^O2   4 (\S+) (\S+) (\S+) 11.0 (\S+)", r"O2   4 \1 -20.5 \3 11.0 31.2"),
    ).copy()
    atoms = moved(model)
    # 0.5 fv(2) and -0.5 would be 0.5 (1 - fv(2)); -20.5 is 0.5 - 0.5 fv(2)
    assert atoms["O1"].site[0] + atoms["O2"].site[1] == pytest.approx(0.5, abs=1e-9)
    assert atoms["O2"].u_iso == pytest.approx(1.2 * atoms["O1"].u_iso, rel=1e-9)


def test_anisotropic_displacements_can_be_fixed(tmp_path):
    model = shelx(tmp_path, (O1, r"O1   4 \1 \2 \3 11.0 10.018 0.014 =\n 0.016 10.001 0 0.001")).copy()
    before = model.structure.scatterers()[0].u_star
    after = moved(model, size=0.001)["O1"].u_star
    assert (after[0], after[5]) == (before[0], before[5])  # U11 and U23
    assert np.all(np.array(after)[1:5] != np.array(before)[1:5])


def test_a_sum_of_free_variables_holds(tmp_path):
    three = (
        (r"^FVAR 1\.0", "SUMP 1.0 0.001 1 2 1 3 1 4\nFVAR 1.0 0.5 0.3 0.2"),
        (r"^O1   4 (.*) 11.0 (\S+)$", r"O1   4 \1 21.0 \2"),
        (r"^O2   4 (.*) 11.0 (\S+)$", r"O2   4 \1 31.0 \2"),
        (r"^C1   1 (.*) 11.0 (\S+)$", r"C1   1 \1 41.0 \2"),
    )
    model = shelx(tmp_path, *three).copy()
    plain = shelx(tmp_path).copy()
    number = [m.reparametrisation(Refined()).n_independents for m in (plain, model)]
    assert number[1] == number[0] + 2
    atoms = moved(model)
    assert sum(atoms[label].occupancy for label in ("O1", "O2", "C1")) == pytest.approx(1.0, abs=1e-12)


def test_parts_share_a_free_variable(tmp_path):
    change = (r"^O1   4 (.*) 11.0 (\S+)\nO2", r"PART 1 21\nO1   4 \1 11.0 \2\nPART 2 -21\nO2")
    model = shelx(tmp_path, (r"^FVAR 1\.0", "FVAR 1.0 0.6"), change, (r"^N1", "PART 0\nN1")).copy()
    assert model.parts.conformers[:3] == (1, 2, 0)
    atoms = moved(model)
    assert atoms["O1"].occupancy != 0.6
    assert atoms["O1"].occupancy + atoms["O2"].occupancy == pytest.approx(1.0, abs=1e-12)


def test_bare_occupancies_are_refined_unless_they_are_whole(tmp_path):
    log = io.StringIO()
    model = shelx(tmp_path, (O1, r"O1   4 \1 \2 \3 0.7 \4"), (r"^O2(.*) 11.0 ", r"O2\1 1.0 "), log=log).copy()
    assert model.free_occupancies == {0}
    assert "occupancies refined, as they have no 10 added: O1" in log.getvalue()
    assert "1 occupancies have no 10 added and stay" in log.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        *(
            "SAME C1 C2",
            "MOVE 1 1 1 -1",
            "HFIX 43 C1",
            "TWIN",
            "BASF 0.2",
            "CHIV 2.5 C2",
            "BUMP",
            "NCSY 1 C1",
            "DEFS 0.01",
        ),
        *("AFIX 66", "AFIX 6", "AFIX 127", "AFIX 1", "DFIX 21.0 C1 C2", "DFIX -3 C1 C2", "BLOC 1 C1", "FREE C1 C2"),
        *("EXYZ C1", "EADP C1", "DFIX 1.5 C1 C99", "SIMU_9 C1", "EXYZ C1 C99", "FLAT C1 C2 C3", "SIMU C3 > C1"),
        "sump 1 0.1 1 3",
    ],
)
def test_what_does_not_hold_is_named_with_its_line(tmp_path, line):
    with pytest.raises(Sorry) as caught:
        shelx(tmp_path, instructions=line)
    first, *rest = line.split()
    assert f"changed.ins, line 10: {' '.join([first.upper(), *rest])}: " in str(caught.value)


def test_continued_lines_and_reflection_formats_are_read(tmp_path):
    model = shelx(tmp_path, instructions="EADP O1 =\n   O2 ! and no more\nREM EADP C1 C2").copy()
    atoms = moved(model)
    assert atoms["O1"].u_iso == atoms["O2"].u_iso
    assert atoms["C1"].u_iso != atoms["C2"].u_iso
    with pytest.raises(Sorry, match="HKLF 5"):
        shelx(tmp_path, ("^HKLF 4", "HKLF 5"))


def test_what_says_nothing_of_the_model_is_ignored(tmp_path):
    silent = "L.S. 10\nPLAN 20\nBOND $H\nACTA\nTEMP -100\nSIZE 0.1 0.1 0.1\nFMAP 2\nLIST 4\nOMIT 1 0 0\nWGHT 0.1\nHTAB"
    log = io.StringIO()
    shelx(tmp_path, instructions=silent, log=log)
    assert log.getvalue() == ""
    shelx(tmp_path, instructions="ANIS\nEXTI 0.01\nSWAT", log=log)
    assert [line.split(": ")[1].split(",")[0] for line in log.getvalue().splitlines()] == [
        "line 10",
        "line 11",
        "line 12",
    ]


def test_labels_may_belong_to_residues(tmp_path):
    second = r"\1RESI 2 ALA\nC1 1 0.05 0.6 0.6 11.0 0.02\nC2 1 0.1 0.6 0.55 11.0 0.03\nHKLF"
    for line, places in (("EADP_2 C1 C2", {13, 14}), ("EADP C1_2 C2", {13, 7}), ("EADP_ALA C1 C2", {13, 14})):
        model = shelx(tmp_path, (r"^()HKLF", second), instructions=line)
        assert [set(each.indices) for each in model.constraints if hasattr(each, "indices")] == [places], line


def test_a_range_and_an_element_name_their_atoms(tmp_path):
    for line, labels in (("EADP N1 > C2", ["N1", "C1", "C2"]), ("EADP $O", ["O1", "O2"])):
        model = shelx(tmp_path, instructions=line)
        groups = [each.indices for each in model.constraints if hasattr(each, "indices")]
        assert [[model.structure.scatterers()[n].label for n in group] for group in groups] == [labels]


def without_afix(text):
    return re.sub(r"^AFIX.*\n", "", re.sub(r"-1\.[25]$", "0.03", text, flags=re.MULTILINE), flags=re.MULTILINE)


def test_hydrogen_rides_whether_or_not_a_file_has_afix(tmp_path):
    path = tmp_path / "bare.ins"
    path.write_text(without_afix(alanine("DFIX 1.50 0.02 C1 C2")))
    structure = read_model(path, log=io.StringIO())
    in_file = shelx_model(path, structure).copy()
    beside = with_instructions(RefinementModel.of(structure, riding=True), ["DFIX 1.50 0.02 C1 C2"]).copy()
    numbers = [model.reparametrisation(Refined()).n_independents for model in (in_file, beside)]
    assert numbers[0] == numbers[1] == 18 + 6 + 2
    assert shelx_model(path, structure, riding=False).copy().reparametrisation(Refined()).n_independents == 13 * 4


def test_free_hydrogen_is_free_of_afix(tmp_path):
    log = io.StringIO()
    model = shelx(tmp_path, riding=False, log=log).copy()
    assert "refinement.hydrogens=free: 10 constraints on hydrogen left out" in log.getvalue()
    assert model.reparametrisation(Refined()).n_independents == 13 * 4


def test_restraints_to_isotropy_wait_for_anisotropic_atoms():
    model = with_instructions(RefinementModel.of(read_model(EXAMPLES / "example.cif"), riding=True), ["ISOR 0.01 C1"])
    model = model.copy()
    numbers = []
    for _ in range(2):
        rp = model.reparametrisation(Refined())
        numbers.append(model.restraints.build_linearised_eqns(model.structure, rp.parameter_map()).n_restraints())
        make_anisotropic(model)
    assert numbers[0] == 0 < numbers[1]


@pytest.mark.parametrize(
    ("text", "terms", "total"),
    [
        ("O1W", (("O1W",),), None),
        ("O1, H1 ,H2", (("O1", "H1", "H2"),), None),
        ("N1A+N1B=1", (("N1A",), ("N1B",)), 1.0),
        ("N1A,H1A + N1B + C9' = 0.5", (("N1A", "H1A"), ("N1B",), ("C9'",)), 0.5),
    ],
)
def test_groups_of_occupancies_are_read(text, terms, total):
    group = OccupancyGroup.parse(text)
    assert (group.terms, group.total) == (terms, total)
    assert OccupancyGroup.parse(str(group)) == group


@pytest.mark.parametrize("text", ["N1+C1", "N1=0.5", "N1+=1", "N1,N1", "N1+C1=x", "N1+C1=0", "=1", "N1,,C1", "A+B=1=2"])
def test_groups_without_a_meaning_are_refused(text):
    with pytest.raises(Sorry, match=re.escape(f"refinement.occupancies={text}: ")):
        parse_occupancies([text])


def test_all_occupancies_at_once_are_refused(tmp_path):
    with pytest.raises(Sorry, match="scales of the frames"):
        parse_occupancies(["True"])
    assert parse_occupancies([None, "False"]) == ()
    _, structure = two_on_one_site(tmp_path)
    model = RefinementModel.of(structure, riding=True)
    labels = [scatterer.label for scatterer in structure.scatterers()]
    for groups, said in (
        ([",".join(labels)], "grow together"),
        (labels, "grow together"),
        (["N99"], r"no atom N99 \(nearest: N1"),
        (["N1", "n1,O1"], "already"),
    ):
        refined = Refined(occupancies=parse_occupancies(groups))
        with pytest.raises(Sorry, match=said):
            prepared(model, RefinementSettings(refined=refined), SILENT)
    most = [",".join(label for label in labels if label not in ("N1", "C9")), "N1+C9=1"]
    prepared(model, RefinementSettings(refined=Refined(occupancies=parse_occupancies(most))), SILENT)


def test_occupancies_start_where_their_sum_is_right(tmp_path):
    _, structure = two_on_one_site(tmp_path, 0.5, 0.3)
    told = Told()
    refined = Refined(occupancies=parse_occupancies(["N1+C9=1", "O1,O2"]))
    model = prepared(RefinementModel.of(structure, riding=True), RefinementSettings(refined=refined), told)
    atoms = {s.label: s for s in model.structure.scatterers()}
    assert (atoms["N1"].occupancy, atoms["C9"].occupancy) == pytest.approx((0.625, 0.375))
    assert any("N1 0.6250, C9 0.3750" in line for line in told.lines)
    atoms = moved(model, refined)
    assert atoms["N1"].occupancy + atoms["C9"].occupancy == pytest.approx(1.0, abs=1e-12)
    assert atoms["O1"].occupancy == pytest.approx(atoms["O2"].occupancy, abs=1e-12)
    assert structure.scatterers()[2].occupancy == 0.5  # the user's stays


def occupancy_problem(tmp_path):
    """Kinematical data of a site shared 0.7 to 0.3, and the model that starts from 0.45 to 0.55."""
    _, truth = two_on_one_site(tmp_path, 0.7, 0.3)
    truth = RefinementModel.of(truth, riding=False).structure
    experiment = experiment_for(truth, per_frame=80, frames=3)
    nuisance = replace(nuisance_for(experiment), centres=np.zeros(3))
    options = {"nuisance": nuisance, "bounds": NuisanceBounds(refine_centres=False)}
    experiment = simulated(truth, experiment, KinematicalTarget, **options)
    _, start = two_on_one_site(tmp_path, 0.45, 0.55)
    refined = Refined(displacements=False, occupancies=(OccupancyGroup.parse("N1+C9=1"),))
    model = RefinementModel.of(start, riding=False).copy()
    return model, refined, target_for(model.structure, experiment, KinematicalTarget, **options)


def test_least_squares_finds_the_true_occupancies(tmp_path):
    model, refined, target = occupancy_problem(tmp_path)
    ls = crystallographic_ls(target, model.reparametrisation(refined))
    normal_eqns_solving.naive_iterations(ls, n_max_iterations=15, step_threshold=1e-7)
    atoms = {s.label: s for s in model.structure.scatterers()}
    assert atoms["N1"].occupancy == pytest.approx(0.7, abs=1e-3)
    assert atoms["C9"].occupancy == pytest.approx(0.3, abs=1e-3)
    ls.build_up()
    jacobian = ls.reparametrisation.jacobian_transpose_matching_grad_fc()
    covariance = ls.covariance_matrix(jacobian, normalised_by_goof=False).matrix_packed_u_as_symmetric()
    variances = covariance.as_numpy_array().diagonal()
    n1, c9 = variances[6 + 3], variances[6 + 7]  # after the sites of two oxygens, x, y, z and occupancy of N1, then C9
    assert n1 == pytest.approx(c9, rel=1e-9)
    assert n1 > 0.0


def test_gradients_follow_the_constraints(tmp_path):
    model, refined, target = occupancy_problem(tmp_path)
    parameters = StructureParameters(model, refined)
    _, slope = parameters.value_and_gradient(target)
    assert len(slope) == len(parameters) == 13 * 3 + 1
    rng = np.random.default_rng(0)
    direction = rng.normal(size=len(parameters))
    values = []
    for step in (1e-4, -1e-4):
        parameters.move(step * direction)
        values.append(parameters.value_and_gradient(target)[0])
        atoms = {s.label: s for s in model.structure.scatterers()}
        assert atoms["N1"].occupancy + atoms["C9"].occupancy == pytest.approx(1.0, abs=1e-12)
        assert atoms["N1"].site == atoms["C9"].site
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(float(slope @ direction), rel=1e-4)


def test_occupancies_out_of_range_are_said(tmp_path):
    _, structure = two_on_one_site(tmp_path)
    refined = Refined(occupancies=parse_occupancies(["N1+C9=1"]))
    model = RefinementModel.of(structure, riding=True).copy()
    assert odd_occupancies(model, RefinementSettings(refined=refined)) == []
    model.structure.scatterers()[2].occupancy = 1.2
    model.structure.scatterers()[3].occupancy = 1e-4
    fallen, above = odd_occupancies(model, RefinementSettings(refined=refined))
    assert "C9 fell to 0" in fallen
    assert "N1 came out as 1.200" in above


def test_sums_hold_at_the_bounds(tmp_path):
    """smtbx puts back a negative occupancy alone, which would leave the sum at 1 plus what was cut off."""
    _, structure = two_on_one_site(tmp_path, 0.8, 0.2)
    refined = Refined(occupancies=parse_occupancies(["N1+C9=1", "O1,O2"]))
    model = RefinementModel.of(structure, riding=False).copy()
    parameters = StructureParameters(model, refined)
    jacobian = model.reparametrisation(refined).jacobian_transpose_matching_grad_fc().as_dense_matrix().as_numpy_array()
    (n1,) = np.flatnonzero(jacobian[:, 14] == 1.0)  # after two oxygens of 5 and x, y, z and U of N1
    parameters = StructureParameters(model, refined)
    atoms = {s.label: s for s in model.structure.scatterers()}
    position = np.zeros(len(parameters))
    for aim, reached in ((2.0, 0.9999), (-3.0, 1e-4), (0.1, 0.9), (9.0, 0.9999), (0.0, 0.8)):
        position[n1] = aim / parameters.scale[n1]
        parameters.move(position)
        assert atoms["N1"].occupancy == pytest.approx(reached, abs=1e-9)
        assert atoms["N1"].occupancy + atoms["C9"].occupancy == pytest.approx(1.0, abs=1e-12)
        assert atoms["O1"].occupancy == 1.0


def test_parameters_without_data_are_named(tmp_path):
    """An atom of occupancy 0 has no slopes; two atoms on one site that are not held together have one slope for both."""
    _, structure = two_on_one_site(tmp_path, 1.0, 0.0)
    model = RefinementModel(structure=structure)
    target = target_for(structure, experiment_for(structure, per_frame=90), KinematicalTarget)
    ls = crystallographic_ls(target, model.reparametrisation(Refined()))
    ls.build_up()
    assert is_singular(ls.normal_matrix)
    assert undetermined(ls.normal_matrix, ls.reparametrisation) == [f"{n} of C9" for n in ("x", "y", "z", "u_iso")]
    told = Told()
    held = prepared(model, RefinementSettings(), told)
    assert told.lines == ["atoms of occupancy 0 stay where they are: C9"]
    ls = crystallographic_ls(target, held.reparametrisation(Refined()))
    ls.build_up()
    assert not is_singular(ls.normal_matrix)


def test_anisotropic_atoms_become_isotropic(tmp_path):
    anisotropic = read_model(EXAMPLES / "example.cif", log=io.StringIO())
    make_anisotropic(RefinementModel(structure=anisotropic))
    model = RefinementModel(structure=anisotropic)
    assert model.copy().reparametrisation(Refined()).n_independents > 13 * 4
    told = Told()
    model = prepared(model, RefinementSettings(anisotropic="none"), told)
    assert model.reparametrisation(Refined()).n_independents == 13 * 4
    assert told.lines == ["refinement.anisotropic=none: 6 anisotropic atoms are made isotropic"]
    cell = anisotropic.unit_cell()
    for before, after in zip(anisotropic.scatterers(), model.structure.scatterers(), strict=True):
        assert after.u_iso == pytest.approx(before.u_iso_or_equiv(cell))
    same = prepared(RefinementModel(structure=anisotropic), RefinementSettings(), told)
    assert same.structure.scatterers()[0].flags.use_u_aniso()


def test_restraints_need_least_squares():
    model = RefinementModel.of(read_model(EXAMPLES / "example.cif", log=io.StringIO()), riding=True)
    model = with_instructions(model, ["DFIX 1.5 C1 C2"])
    for settings in (RefinementSettings(method="gradient"), RefinementSettings(most_parameters=100)):
        with pytest.raises(Sorry, match="takes no restraints"):
            prepared(model, settings, SILENT)
    prepared(model, RefinementSettings(method="least_squares", most_parameters=100), SILENT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "least_sqares"},
        {"anisotropic": "auto "},
        {"loss": "cauch"},
        {"cycles": 0},
        {"weighting": -1.0},
        {"free_frames": 1},
        {"instructions": "DFIX 1.5 C1 C2"},
    ],
)
def test_refinement_settings_check_its_choices(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must be"):
        RefinementSettings(**wrong)


def test_refined_takes_groups_only():
    for wrong in (True, "N1+C9=1", ("N1+C9=1",)):
        with pytest.raises(ValueError, match="OccupancyGroup"):
            Refined(occupancies=wrong)


def test_elimination_leaves_what_the_equations_allow():
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(4, 9)) * (rng.random((4, 9)) < 0.5)
    rows = np.vstack([rows, rows[0] - 2.0 * rows[1], np.zeros(9)])  # one follows from others, one says nothing
    basis = null_space(rows)
    assert basis.shape == (9 - np.linalg.matrix_rank(rows), 9)
    assert np.linalg.matrix_rank(basis) == len(basis)
    np.testing.assert_allclose(rows @ basis.T, 0.0, atol=1e-12)


def test_occupancies_come_from_the_command_line_with_uncertainties(tmp_path, capsys):
    path, _ = two_on_one_site(Path(tmp_path), 0.6, 0.4)
    few = ["frames.last=3", "nproc=1", "refinement.cycles=1", "accuracy.tolerance=0.5", "solver.name=kinematical"]
    out = f"output.prefix={tmp_path / 'r'}"
    refine_program.run(
        [str(path), DATA, *few, out, "refinement.occupancies=N1 + C9 = 1", "refinement.anisotropic=none"]
    )
    assert "N1 and C9 are on one site" in capsys.readouterr().out
    block = iotbx.cif.reader(str(tmp_path / "r.cif")).model().blocks["r"]
    written = dict(zip(block["_atom_site_label"], block["_atom_site_occupancy"], strict=True))
    assert all(re.fullmatch(r"-?\d+\.?\d*\(\d+\)", written[label]) for label in ("N1", "C9")), written
    assert "(" not in written["O1"]
    assert json.loads((tmp_path / "r.json").read_text())["least_squares"]["parameters"] > 0
    with pytest.raises(SystemExit):
        refine_program.run([str(path), DATA, *few, out, "refinement.occupancies=True"])
    assert "cannot be told from the scales" in capsys.readouterr().err
