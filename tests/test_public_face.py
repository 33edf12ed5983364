"""What scripts import: two packages, a screenful of names, each with a docstring; and what objects say of themselves."""

import ast
import inspect
import io
from pathlib import Path

import numpy as np
import pytest
from cctbx.array_family import flex

import edtbx
import edtbx_cctbx
from edtbx import Nuisance, NuisanceBounds, SelectionRules
from edtbx.intensities.forward import ForwardModel
from edtbx_cctbx import MapSettings, RefinementSettings, Settings

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
OURS = ("edtbx", "edtbx_cctbx")


@pytest.mark.parametrize("package", [edtbx, edtbx_cctbx])
def test_names_are_there_and_documented(package):
    assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
    assert len(package.__all__) <= 24
    for name in package.__all__:
        value = getattr(package, name)
        if not name.startswith("_"):
            assert inspect.getdoc(value), name


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_examples_import_from_these_two_only(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module in OURS or not node.module.startswith(OURS), node.module
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith(tuple(f"{name}." for name in OURS)) for alias in node.names)


def test_structure_factors_are_those_of_cctbx():
    structure = edtbx_cctbx.read_model(EXAMPLES / "example.cif")
    vectors, f = edtbx_cctbx.structure_factors(structure, 0.4)
    assert np.linalg.norm(vectors.hkl / structure.unit_cell().parameters()[:3], axis=1).max() <= 0.8
    f_calc = structure.structure_factors(
        d_min=1.3, algorithm="direct", cos_sin_table=False, anomalous_flag=True
    ).f_calc()
    for h, value in zip(f_calc.expand_to_p1().indices(), f_calc.expand_to_p1().data(), strict=True):
        assert f[vectors.find(np.array([h]))[0]] == pytest.approx(value, rel=1e-6, abs=1e-9)
    with pytest.raises(TypeError, match=r"expected an xray.structure, got int"):
        edtbx_cctbx.structure_factors(3, 1.0)


def test_settings_may_be_left_out(monkeypatch):
    """Programs fit with the same; here they are only seen to arrive."""

    class Arrived(Exception):
        pass

    def scattering_model(settings, solver, experiment, structure):
        assert settings == type(settings)()
        raise Arrived

    monkeypatch.setattr(Settings, "scattering_model", scattering_model)
    experiment = edtbx_cctbx.read_experiment(EXAMPLES / "example.cif_pets").select_frames([1])
    structure = edtbx_cctbx.read_model(EXAMPLES / "example.cif")
    for function in (edtbx_cctbx.compare, edtbx_cctbx.refine, edtbx_cctbx.make_maps):
        with pytest.raises(Arrived):
            function(experiment, structure)
        with pytest.raises(TypeError, match=r"settings must be of type \w*Settings, got 3"):
            function(experiment, structure, 3)
    with pytest.raises(TypeError, match="must be of type RefinementSettings"):
        edtbx_cctbx.refine(experiment, structure, MapSettings())
    with pytest.raises(TypeError, match="must be of type MapSettings"):
        edtbx_cctbx.make_maps(experiment, structure, RefinementSettings())


def test_nuisance_parameters_have_a_summary():
    nuisance = Nuisance(
        shape="wedge", thickness=870.0, sigma=0.001, centres=np.radians([0.03, -0.04]), scales=np.array([2.0, 4.0])
    )
    log = io.StringIO()
    assert nuisance.show_summary(f=log, prefix="> ") is nuisance
    assert log.getvalue().splitlines() == [
        "> Crystal: wedge of 870 Å, spread 0.057°",
        "> Frames: 2",
        "> Scales: 2 to 4, mean 3",
        "> Centres: -0.040 to 0.030 degrees, root mean square 0.035",
    ]


def test_maps_have_a_summary(capsys):
    structure = edtbx_cctbx.read_model(EXAMPLES / "example.cif")
    experiment = edtbx_cctbx.read_experiment(EXAMPLES / "example.cif_pets").select_frames([3, 6, 9])
    settings = MapSettings(
        solver="two_beam", rules=SelectionRules(d_min=1.0), bounds=NuisanceBounds(shapes=("wedge",)), omit=("H1",)
    )
    maps = edtbx_cctbx.make_maps(experiment, structure, settings)
    capsys.readouterr()
    maps.show_summary()
    first, crystal, *kinds = capsys.readouterr().out.splitlines()
    assert first == f"Maps of 12 atoms, R(obs) {maps.statistics.r_obs:.4f}"
    assert crystal.startswith("Crystal: wedge of ")
    assert [line.partition(":")[0] for line in kinds] == list(maps.qualities)
    assert all("of 1 atoms left out" in line for line in kinds)


@pytest.fixture
def few():
    """Two frames of the example, a few rows of each, and the structure."""
    experiment = edtbx_cctbx.read_experiment(EXAMPLES / "example.cif_pets").select_frames([2, 6])
    return (
        experiment,
        edtbx_cctbx.read_model(EXAMPLES / "example.cif"),
        {"rules": SelectionRules(d_min=0.8), "nproc": 1},
    )


def test_making_a_target_computes_no_wave(few, monkeypatch):
    experiment, structure, options = few

    def compute(*_):
        raise AssertionError("a wave was asked for")

    monkeypatch.setattr(ForwardModel, "cubes", compute)
    for kind in (edtbx_cctbx.DynamicalTarget, edtbx_cctbx.KinematicalTarget):
        target = kind(experiment, structure, **options)
        assert target.f_obs().size() > 0
        assert target.i_obs().size() == len(target.observations)
        assert "2 frames" in repr(target)
        with pytest.raises(AssertionError, match="a wave was asked for"):
            _ = target.nuisance


def test_intensities_are_miller_arrays_beside_their_frames(few):
    """Rows of the file, those of one frame after those of another, and what statistics takes."""
    experiment, structure, options = few
    target = edtbx_cctbx.KinematicalTarget(experiment, structure, **options)
    i_obs, i_calc, frame_ids = target.i_obs(), target.i_calc(structure), target.frame_ids()
    assert i_obs.is_xray_intensity_array()
    assert i_obs.space_group() == structure.space_group()
    assert i_obs.indices().all_eq(i_calc.indices())
    assert i_obs.indices().all_eq(frame_ids.indices())
    rows = experiment.reflections
    known = set(zip(map(tuple, rows.hkl.tolist()), rows.intensity, rows.sigma, rows.frame_id.tolist(), strict=True))
    found = list(zip(i_obs.indices(), i_obs.data(), i_obs.sigmas(), frame_ids.data(), strict=True))
    assert len(found) == len(set(found)) > 40
    assert set(found) <= known
    assert list(frame_ids.data()) == sorted(frame_ids.data())
    f_obs, f_calc = (flex.sqrt(i.data().deep_copy().set_selected(i.data() < 0, 0)) for i in (i_obs, i_calc))
    r_all = flex.sum(flex.abs(f_obs - f_calc)) / flex.sum(f_obs)
    assert target.statistics(i_calc).r_all == pytest.approx(r_all, rel=1e-12)


@pytest.mark.parametrize("first", ["nuisance", "forward", "i_calc"])
def test_whatever_is_asked_first_finds_the_sampling_that_keeps_the_tolerance(first, few):
    experiment, structure, options = few
    target = edtbx_cctbx.DynamicalTarget(experiment, structure, tolerance=0.5, **options)
    coarse = target._scattering.forward.waves_per_frame
    found = getattr(target, first)
    if first == "i_calc":
        found(structure)
    assert len(target.nuisance.centres) == 2
    assert target.forward.waves_per_frame != coarse
    fine = edtbx_cctbx.DynamicalTarget(experiment, structure, tolerance=0.05, **options)
    assert fine.forward.beams_per_frame > target.forward.beams_per_frame
    i_calc = [t.scattering.i_calc(structure, target.nuisance) for t in (target, fine)]
    measured = target.observations.reflections
    allowed = np.maximum(measured.sigma, 0.01 * measured.intensity)
    assert np.sqrt(np.mean(((i_calc[0] - i_calc[1]) / allowed) ** 2)) < 0.75


def test_no_theory_is_a_kind_of_the_other():
    assert not issubclass(edtbx_cctbx.KinematicalTarget, edtbx_cctbx.DynamicalTarget)
    assert not issubclass(edtbx_cctbx.DynamicalTarget, edtbx_cctbx.KinematicalTarget)
