"""What the public functions say of arguments of the wrong kind: one line, with what was expected and what to call."""

import ast
import copy
import inspect
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cctbx import crystal, xray
from cctbx.array_family import flex
from libtbx import easy_mp
from libtbx.utils import Sorry
from scitbx import lbfgs
from smtbx.refinement import constraints
from smtbx.utils import connectivity_table
from test_target import experiment_for, model_in, nuisance_for, refining, target_for

import edtbx_cctbx
from edtbx.execution.executors import frame_threads
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.sampling import Sampling
from edtbx.levels import coarse_to_fine, level_search
from edtbx.levels.sampling_levels import COARSE, DRAFT
from edtbx.measurement.selection import SelectionRules
from edtbx.solvers.block import Accuracy
from edtbx_cctbx import DynamicalMap, DynamicalTarget, KinematicalTarget, Settings, compare, crystallographic_ls
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.maps.make_maps import make_maps
from edtbx_cctbx.refinement.refine import refine
from edtbx_cctbx.targets.minimisation import UnboundedDisplacements, minimise_with_lbfgs

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
REACH = {"g_max": 1.0}


@pytest.fixture(scope="module")
def structure():
    return model_in("P 41 21 2")


@pytest.fixture(scope="module")
def experiment(structure):
    return experiment_for(structure, reach=0.9)


@pytest.fixture(scope="module")
def target(structure, experiment):
    return target_for(structure, experiment, KinematicalTarget, **REACH)


def f_calc(target, structure):
    return target.f_obs().structure_factors_from_scatterers(structure, algorithm="direct", cos_sin_table=False).f_calc()


def reparametrisation_of(structure):
    return constraints.reparametrisation(
        structure=refining(structure, site=True), constraints=[], connectivity_table=connectivity_table(structure)
    )


def changed(structure, **kwds):
    """Another structure of the same kind."""
    other = structure.deep_copy_scatterers()
    for name, value in kwds.items():
        setattr(other.scatterers()[0], name, value)
    return other


def in_group(structure, symbol, cell=None):
    cell = cell or structure.unit_cell().parameters()
    return xray.structure(crystal_symmetry=crystal.symmetry(cell, symbol), scatterers=structure.scatterers())


def emptied(structure):
    other = structure.deep_copy_scatterers()
    other.set_occupancies(0.0)
    return other


NO_STRUCTURE = {
    "path": (
        lambda s: "x.cif",
        TypeError,
        r"expected an xray.structure, got str: call edtbx_cctbx.read_model\('x.cif'\)",
    ),
    "Path": (lambda s: Path("x.res"), TypeError, r"call edtbx_cctbx.read_model\('x.res'\)"),
    "None": (lambda s: None, TypeError, "expected an xray.structure, got NoneType"),
    "experiment": (lambda s: experiment_for(s), TypeError, "got Experiment: have the arguments changed places"),
    "empty": (lambda s: s.select(flex.bool(s.scatterers().size(), False)), ValueError, "with atoms, got one without"),
    "nan": (lambda s: changed(s, site=(0.1, float("nan"), 0.0)), ValueError, "atom X0 has no finite coordinates"),
    "nan in U": (lambda s: changed(s, u_star=(float("nan"),) * 6), ValueError, "displacement parameters"),
    "no occupancy": (emptied, ValueError, "all occupancies are 0"),
}
OTHER_CRYSTAL = {
    "group": (
        lambda s: in_group(s, "P 41"),
        ValueError,
        "of space group P 41 given to a target of space group P 41 21 2",
    ),
    "cell": (
        lambda s: in_group(s, "P 41 21 2", (5.1, 5.1, 6.1, 90, 90, 90)),
        ValueError,
        "of a cell 5.1 5.1 6.1 90 90 90 given to a target of a cell 5 5 6.1 90 90 90",
    ),
}


@pytest.mark.parametrize(("wrong", "error", "said"), [*NO_STRUCTURE.values(), *OTHER_CRYSTAL.values()])
@pytest.mark.parametrize("asked", ["i_calc", "structure_factors", "cubes", "fit_nuisance", "map", "lbfgs"])
def test_a_structure_of_the_targets_crystal(asked, wrong, error, said, structure, target):
    calls = {"map": lambda s: DynamicalMap(target, s), "lbfgs": lambda s: minimise_with_lbfgs(target, s)}
    call = calls.get(asked) or getattr(target.scattering if asked == "cubes" else target, asked)
    with pytest.raises(error, match=said):
        call(wrong(structure))


@pytest.mark.parametrize(("wrong", "error", "said"), NO_STRUCTURE.values(), ids=NO_STRUCTURE)
def test_a_structure_to_begin_with(wrong, error, said, structure, experiment):
    with pytest.raises(TypeError if error is TypeError else Sorry, match=said):
        DynamicalTarget(experiment, wrong(structure))
    with pytest.raises(TypeError if error is TypeError else Sorry, match=said):
        compare(experiment, wrong(structure), Settings())


def test_atoms_may_be_others(structure, target):
    some = structure.select(flex.size_t([0]))
    assert not np.allclose(target.i_calc(some).data(), target.i_calc(structure).data())


def test_an_experiment(structure, experiment):
    with pytest.raises(
        TypeError, match=r"expected an Experiment, got str: call edtbx_cctbx.read_experiment\('x.cif_pets'"
    ):
        DynamicalTarget("x.cif_pets", structure)
    with pytest.raises(TypeError, match="got structure: have the arguments changed places"):
        edtbx_cctbx.experiment_as_miller_array(structure)
    with pytest.raises(TypeError, match="expected an Experiment"):
        edtbx_cctbx.write_experiment("x.cif_pets", structure)
    nothing = replace(experiment, reflections=experiment.reflections.select(np.zeros(0, dtype=int)))
    with pytest.raises(Sorry, match="with reflections, got one without"):
        DynamicalTarget(nothing, structure)
    with pytest.raises(TypeError, match="intensity must be a numpy array, got list"):
        replace(experiment.reflections, intensity=[1.0])


def test_paths_and_settings(structure, experiment):
    for read in (edtbx_cctbx.read_model, edtbx_cctbx.read_experiment):
        with pytest.raises(TypeError, match=r"expected the path of a .*, got int"):
            read(3)
    with pytest.raises(TypeError, match=r"expected an xray.structure, got str"):
        edtbx_cctbx.set_electron_form_factors("x.cif")
    with pytest.raises(TypeError, match=r"settings must be of type Settings, got \{\}"):
        compare(experiment, structure, {})


def test_arguments_of_readers_and_of_indexing(structure, experiment):
    data, model = EXAMPLES / "example.cif_pets", EXAMPLES / "example.cif"
    wrong = {
        "geometry must be of type ScanGeometry, got 'rotation'": lambda: edtbx_cctbx.read_experiment(data, "rotation"),
        "cell_tolerance must be a number": lambda: edtbx_cctbx.read_experiment(data, cell_tolerance="wide"),
        "reindex must be of type str, got 3": lambda: edtbx_cctbx.read_experiment(data, reindex=3),
        "expected an Experiment, got str": lambda: edtbx_cctbx.reindexed("-h,-k,-l", experiment),
        "got structure: have the arguments changed": lambda: edtbx_cctbx.with_model_cell(structure, structure),
        "expected an xray.structure, got Experiment": lambda: edtbx_cctbx.with_model_cell(structure, experiment),
        "the tolerance must be a number": lambda: edtbx_cctbx.with_model_cell(experiment, structure, "wide"),
        "crystal_symmetry must be of type symmetry": lambda: edtbx_cctbx.experiment_as_miller_array(experiment, "P 1"),
        "log must be a stream to write to": lambda: edtbx_cctbx.read_model(model, log="x"),
        "cell_tolerance must be a number, got None": lambda: edtbx_cctbx.read_model(model, cell_tolerance=None),
        r"expected ids of frames, such as \[1, 2\], got 1": lambda: experiment.select_frames(1),
    }
    for said, call in wrong.items():
        with pytest.raises(TypeError, match=said):
            call()
    for said, kwds in {
        "cell_tolerance must be >= 0, got -1": {"cell_tolerance": -1},
        "non_positive must be one of refuse, mend, got 'blah'": {"non_positive": "blah"},
    }.items():
        with pytest.raises(ValueError, match=said):
            edtbx_cctbx.read_model(model, **kwds)


def test_the_atoms_that_a_map_is_made_of(structure, target):
    with pytest.raises(Sorry, match="no electron form factor is known for Xx"):
        DynamicalMap(target, structure, scattering_type="Xx")
    with pytest.raises(ValueError, match="u_iso must be > 0 A"):
        DynamicalMap(target, structure, u_iso=-1.0)


def test_structure_factors(structure, target):
    right = f_calc(target, structure)
    turned = flex.size_t(reversed(range(right.size())))
    with pytest.raises(
        TypeError, match=r"expected a miller.array .*, got complex_double: compute them as target.f_obs\(\)"
    ):
        target(right.data(), True)
    with pytest.raises(TypeError, match=r"expected complex structure factors, got a miller.array of double"):
        target(right.amplitudes(), True)
    with pytest.raises(ValueError, match=rf"expected {right.size()} structure factors, .* got 5"):
        target(right[:5], True)
    with pytest.raises(ValueError, match=r"of the indices of target.f_obs"):
        target(right.select(turned), True)
    for group in OTHER_CRYSTAL.values():
        other = group[0](structure)
        there = right.customized_copy(crystal_symmetry=other.crystal_symmetry(), indices=right.indices().deep_copy())
        with pytest.raises(ValueError, match="the structure factors of"):
            target(there, True)
    with pytest.raises(ValueError, match=r"structure factors are not finite: .*tan_u_iso=True"):
        target(right.customized_copy(data=right.data() * float("inf")), False)
    copied = right.customized_copy(indices=right.indices().deep_copy())
    assert target(copied, False).target() == target(right, False).target()


def test_intensities(structure, target):
    right = to_numpy(target.i_calc(structure).data())
    with pytest.raises(
        ValueError, match=rf"expected {len(right)} intensities, those of target.i_obs\(\) .* shape \(3,\)"
    ):
        target.statistics(right[:3])
    with pytest.raises(TypeError, match="expected real intensities"):
        target.statistics(right.astype(complex))
    with pytest.raises(ValueError, match="intensities are not finite"):
        target.statistics(right * np.nan)
    assert target.statistics(flex.double(right)) == target.statistics(list(right)) == target.statistics(right)


ARGUMENTS = [
    ({"tolerance": -1.0, "sampling": None}, ValueError, "tolerance must be > 0, got -1"),
    ({"tolerance": "small", "sampling": None}, TypeError, "tolerance must be a number, got 'small'"),
    ({"tolerance": 0.1}, ValueError, "give a tolerance, which chooses the sampling, or a sampling, not both"),
    ({"nproc": 0}, Sorry, "nproc must be at least 1"),
    ({"nproc": 1.5}, TypeError, "nproc must be a whole number"),
    ({"executor": 3, "nproc": None}, TypeError, "executor must be a concurrent.futures.Executor, got int"),
    ({"executor": frame_threads(1), "nproc": 1}, Sorry, "leave out one of them"),
    ({"solver": "eigne"}, Sorry, "the known ones are"),
    ({"solver": 3}, TypeError, "solver must be of type str, got 3"),
    ({"g_max": "2"}, TypeError, "g_max must be a number, got '2'"),
    ({"g_max": 0.0}, Sorry, "g_max must be > 0 1/Å, got 0"),
    ({"g_max": float("nan")}, Sorry, "g_max must be > 0 1/Å, got nan"),
    ({"rules": {}}, TypeError, "rules must be of type SelectionRules, got {}"),
    ({"sampling": 3}, TypeError, "sampling must be of type Sampling, got 3"),
    ({"bounds": 1}, TypeError, "bounds must be of type NuisanceBounds, got 1"),
    ({"nuisance": 3}, TypeError, "nuisance must be of type Nuisance, got 3"),
]


@pytest.mark.parametrize(("kwds", "error", "said"), ARGUMENTS)
def test_arguments_of_a_target(kwds, error, said, structure, experiment):
    with pytest.raises(error, match=said):
        target_for(structure, experiment, **kwds)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: NuisanceBounds(shapes="wedge"), TypeError, "shapes must be a tuple of names"),
        (lambda: NuisanceBounds(thickness=-3.0), ValueError, "thickness must be > 0 Å, got -3 .is it in nm"),
        (
            lambda: NuisanceBounds(thickness=99999.0),
            ValueError,
            "thickness must be at most 10000 Å, got 99999 .is it in nm",
        ),
        (lambda: NuisanceBounds(thickness=float("nan")), ValueError, "thickness must be > 0 Å, got nan"),
        (lambda: NuisanceBounds(thickness="800"), TypeError, "thickness must be a number, got '800'"),
        (lambda: NuisanceBounds(thickness=True), TypeError, "thickness must be a number, got True"),
        (
            lambda: NuisanceBounds(sigma=0.12),
            ValueError,
            "spread sigma must lie between 0 and 0.04 radians, got 0.12 .is it in deg",
        ),
        (lambda: Settings(tolerance=0.0), ValueError, "tolerance must be > 0, got 0"),
        (lambda: Settings(s_max="x"), TypeError, "s_max must be a number, got 'x'"),
        (lambda: Settings(solver=3), TypeError, "solver must be of type str, got 3"),
        (lambda: Settings(g_max=-1.0), ValueError, "g_max must be > 0 1/Å, got -1"),
        (lambda: Settings(nproc=0), ValueError, "nproc must be at least 1, got 0"),
        (lambda: Settings(bounds={}), TypeError, "bounds must be of type NuisanceBounds"),
        (
            lambda: NuisanceBounds(shapes=("wegde",)),
            ValueError,
            "there is no thickness law 'wegde': choose from slab, wedge",
        ),
        (lambda: NuisanceBounds(centre_max=0.2), ValueError, "centre_max .* got 0.2 .is it in degrees"),
        (lambda: Sampling(tilts=0), ValueError, "tilts must be at least 1"),
        (lambda: Sampling(spread_spacing=0.0), ValueError, "spread_spacing must be > 0"),
        (lambda: Sampling(spread_reach=0.4), ValueError, "is it in degrees"),
        (lambda: Sampling(thickness_max=1e9), ValueError, "thickness_max must lie between"),
    ],
)
def test_arguments_of_values(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_nuisance_parameters_of_other_frames(structure, experiment):
    three = nuisance_for(replace(experiment, frames=(*experiment.frames, replace(experiment.frames[0], id=99))))
    with pytest.raises(ValueError, match="nuisance parameters of 3 frames given for 2 frames"):
        target_for(structure, experiment, nuisance=three)
    target = target_for(structure, experiment, KinematicalTarget, **REACH)
    target.nuisance = three
    with pytest.raises(ValueError, match="nuisance parameters of 3 frames given for a model of 2"):
        target.i_calc(structure)


def test_changed_places_and_words(structure, target):
    swapped = "expected a DynamicalTarget or KinematicalTarget, got structure: have the arguments changed places"
    for call in (DynamicalMap, minimise_with_lbfgs, crystallographic_ls):
        with pytest.raises(TypeError, match=swapped):
            call(structure, target)
    with pytest.raises(TypeError, match="expected a reparametrisation, got structure: make one as smtbx"):
        crystallographic_ls(target, structure)
    rp = reparametrisation_of(structure.deep_copy_scatterers())
    with pytest.raises(ValueError, match="rows must be one of exact, local, own, got 'all'"):
        crystallographic_ls(target, rp, rows="all")
    with pytest.raises(ValueError, match="loss must be one of squares, huber, cauchy, got 'l2'"):
        crystallographic_ls(target, rp, loss="l2")
    with pytest.raises(ValueError, match="loss must be one of squares, huber, cauchy, got None"):
        DynamicalMap(target, structure, loss=None)
    with pytest.raises(ValueError, match="of space group P 41 given to a target of space group P 41 21 2"):
        crystallographic_ls(target, reparametrisation_of(in_group(structure, "P 41")))
    with pytest.raises(Sorry, match="there is no map of kind 'fofc': choose from newton"):
        DynamicalMap(target, structure).coefficients("fofc")


def test_form_factors_are_put_in_where_others_stand(structure, target):
    fresh = xray.structure(crystal_symmetry=structure, scatterers=structure.scatterers())
    assert fresh.scattering_type_registry().last_table() == "n_gaussian"
    assert target.i_calc(fresh).data().all_eq(target.i_calc(structure).data())


def test_unbounded_displacements_are_named(structure, target):
    moving = refining(structure.deep_copy_scatterers(), u_iso=True)
    for scatterer in moving.scatterers():
        scatterer.flags.set_use_u(iso=True, aniso=False)
        scatterer.u_iso = -1.5
    with (
        pytest.warns(UnboundedDisplacements, match=r"set_scatterer_grad_flags\(.*tan_u_iso=True, param=15\)"),
        pytest.raises(Sorry, match=r"has run away.*: bound it, xray.set_scatterer_grad_flags\(.*tan_u_iso=True"),
    ):
        minimise_with_lbfgs(target, moving, lbfgs_termination_params=lbfgs.termination_parameters())
    with pytest.raises(Sorry, match="no parameter of the structure is to be refined"):
        minimise_with_lbfgs(target, refining(structure.deep_copy_scatterers()))


def both(target, structure):
    result = target(f_calc(target, structure), True)
    return result.target(), list(result.derivatives())


@pytest.fixture(scope="module")
def dynamical(structure, experiment):
    return target_for(structure, experiment, nproc=2, **REACH)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_targets_are_copied(copied, structure, dynamical):
    expected = both(dynamical, structure)
    other = copied(dynamical)
    assert both(other, structure) == expected
    assert other.forward.executor is not dynamical.forward.executor
    assert other.i_calc(copied(structure)).data().all_eq(dynamical.i_calc(structure).data())


def test_an_executor_of_ones_own_is_not_copied(structure, experiment):
    class Mine(frame_threads(1).__class__.__base__):
        """Threads of a caller."""

    with Mine(1) as executor:
        target = target_for(structure, experiment, KinematicalTarget, nproc=None, executor=executor)
        other = copy.deepcopy(target)
    assert both(other, structure)


def test_targets_go_to_other_processes(structure, dynamical):
    """A fork copies a target whose threads have started, and none of the threads."""
    structures = [structure, changed(structure, occupancy=0.5)]
    expected = [both(dynamical, each) for each in structures]
    assert expected[0] != expected[1]
    assert easy_mp.pool_map(processes=2, fixed_func=lambda each: both(dynamical, each), args=structures) == expected
    assert easy_mp.pool_map(processes=2, func=partial(both, dynamical), args=structures) == expected


def test_maps_are_copied(structure, target):
    calculator = DynamicalMap(target, structure)
    expected = list(calculator.coefficients("newton").data())
    other = pickle.loads(pickle.dumps(calculator))
    assert list(other.coefficients("newton").data()) == expected
    afresh = copy.deepcopy(DynamicalMap(target, structure))
    assert np.allclose(np.array(list(afresh.coefficients("newton").data())), expected, rtol=1e-10, atol=1e-12)
    assert np.array_equal(other.distances_followed, calculator.distances_followed)


def test_equations_are_not(structure, target):
    ls = crystallographic_ls(target, reparametrisation_of(structure.deep_copy_scatterers()))
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied, because reparametrisations of smtbx cannot"):
            copied(ls)


@pytest.fixture(scope="module")
def example():
    experiment = edtbx_cctbx.read_experiment(EXAMPLES / "example.cif_pets").select_frames([1, 2])
    return experiment, edtbx_cctbx.read_model(EXAMPLES / "example.cif")


def test_summaries(example, target, capsys):
    experiment, _ = example
    experiment.show_summary()
    assert capsys.readouterr().out == str(experiment) + "\n"
    assert str(experiment).startswith("Frames: 2, rotation")
    target.show_summary(prefix="  ")
    assert capsys.readouterr().out.splitlines() == ["  " + line for line in str(target).splitlines()]
    for value in (
        experiment,
        experiment.reflections,
        target,
        target.nuisance,
        DynamicalMap(target, model_in("P 41 21 2")),
    ):
        assert len(repr(value)) < 200
        assert len(str(value)) < 1500
    assert "2 frames" in repr(target)


def test_a_comparison_prints_nothing_and_is_copied(example, monkeypatch, capsys):
    experiment, structure = example
    capsys.readouterr()
    few = replace(COARSE, accuracy=Accuracy(s_max=0.01, s_strong=0.003, tolerance=1e-4), spread_reach=0.004, tilts=6)
    monkeypatch.setattr(coarse_to_fine, "COARSE", few)
    drafts = level_search._Along(levels=[DRAFT] * len(level_search.BEAMS), least=0)
    monkeypatch.setattr(level_search, "_AXES", (drafts, drafts))
    settings = Settings(rules=SelectionRules(d_min=1.1), s_max=0.01, bounds=NuisanceBounds(shapes=("slab",)), nproc=1)
    found = compare(experiment, structure, settings)
    written = capsys.readouterr()
    assert written.out == written.err == ""
    for value in (found, found.dynamical):
        assert str(pickle.loads(pickle.dumps(value))) == str(copy.deepcopy(value)) == str(value)
        assert len(repr(value)) < 300
    found.show_summary()
    assert f"R(obs) {found.dynamical.statistics.r_obs:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize("function", [refine, make_maps])
def test_the_library_says_nothing_unless_asked(function, capsys):
    report = inspect.signature(function).parameters["report"].default
    report.say("how far it has come")
    report.behind("so far, ").say("it has come")
    assert list(report.progress("a stage")([1, 2], 2)) == [1, 2]
    written = capsys.readouterr()
    assert written.out == written.err == ""


def prints(source):
    """Lines that print without saying where, or take ``print`` for a default."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            if not any(keyword.arg == "file" for keyword in node.keywords):
                yield node.lineno
        elif isinstance(node, ast.arguments):
            defaults = [*node.defaults, *filter(None, node.kw_defaults)]
            yield from (each.lineno for each in defaults if isinstance(each, ast.Name) and each.id == "print")


def test_the_packages_print_nowhere_else():
    assert list(prints("print(1)\nprint(1, file=f)\ndef f(say=print): pass")) == [1, 3]
    root = EXAMPLES.parent
    for path in [*(root / "plugin").rglob("*.py"), *(root / "adapters").rglob("*.py")]:
        if "programs" not in path.parts:
            assert not list(prints(path.read_text(encoding="utf-8"))), path
