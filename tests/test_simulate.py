"""edtbx.simulate: what is put in comes out again."""

import io
from dataclasses import MISSING, fields, replace
from pathlib import Path

import numpy as np
import pytest
from cctbx import crystal, xray
from cctbx.array_family import flex
from scipy.spatial.transform import Rotation

from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.sampling import Sampling
from edtbx.intensities.simulation import Crystal, Noise, Scan
from edtbx.measurement.experiment import ScanGeometry
from edtbx.measurement.geometry import excitation_error, frame_vectors, scan_lever
from edtbx.measurement.selection import SelectionRules
from edtbx.solvers.block import Accuracy
from edtbx_cctbx.io.cif_pets import read_experiment, write_experiment
from edtbx_cctbx.programs import simulate as program
from edtbx_cctbx.simulation import SimulationSettings, simulate
from edtbx_cctbx.targets.theories import DynamicalTarget

QUIET = Noise(counts=1e7, background=0.0, orientation=0.0, scale=0.0)
SCAN = Scan(first=-0.7, step=0.35, frames=5, semi_angle=np.radians(1.5), d_min=0.75)
TURNED = Rotation.from_euler("xyz", [20.0, 35.0, 50.0], degrees=True).as_matrix()
WEDGE = Crystal(shape="wedge", thickness=700.0, sigma=np.radians(0.06))
SMALL = ("scan.frames=2", "selection.d_min=1.1", "thickness.value=200", "beams.s_max=0.01", "nproc=1")


@pytest.fixture(scope="module")
def structure() -> xray.structure:
    """Four atoms in a polar, chiral cell."""
    symmetry = crystal.symmetry((4.6, 5.3, 6.1, 90.0, 98.0, 90.0), space_group_symbol="P 21")
    sites = {"O": (0.12, 0.03, 0.21), "N": (0.41, 0.22, 0.34), "C": (0.68, 0.08, 0.12), "H": (0.83, 0.21, 0.33)}
    scatterers = flex.xray_scatterer([xray.scatterer(e, site=x, scattering_type=e, u=0.01) for e, x in sites.items()])
    return xray.structure(crystal_symmetry=symmetry, scatterers=scatterers)


def simulated(structure, *, noise=QUIET, scan=SCAN, seed=1, **kwargs):
    options = {"solver": "eigen", "s_max": 0.03, "nproc": 2, **kwargs}
    settings = SimulationSettings(
        wavelength=0.02508, orientation=TURNED, scan=scan, crystal=WEDGE, noise=noise, **options
    )
    return simulate(structure, settings, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def quiet(structure):
    return simulated(structure, noise=replace(QUIET, orientation=np.radians(0.06), scale=0.1))


@pytest.fixture
def model(tmp_path, structure) -> Path:
    path = tmp_path / "model.cif"
    text = io.StringIO()
    structure.as_cif_simple(out=text, data_name="model", format="coreCIF")
    path.write_text(text.getvalue())
    return path


def fitted(structure, experiment):
    sampling = Sampling(
        accuracy=Accuracy(s_max=0.03),
        tilt_thickness=700.0,
        spread_reach=np.radians(0.3),
        spread_spacing=np.radians(0.03),
        thickness_max=1000.0,
        thickness_step=12.5,
    )
    bounds = NuisanceBounds(shapes=("slab", "wedge", "thin"))
    rules = SelectionRules(rsg_max=0.9, dsg_min=0.0)
    return DynamicalTarget(experiment, structure, bounds=bounds, rules=rules, sampling=sampling, g_max=1 / 0.75 + 0.2)


def test_crystal_and_frames_are_found_again(tmp_path, structure, quiet):
    path = tmp_path / "quiet.cif_pets"
    write_experiment(path, quiet.experiment)
    target = fitted(structure, read_experiment(path))
    found, truth = target.nuisance, quiet.truth
    assert found.shape == truth.shape
    assert np.abs(truth.centres).max() > np.radians(0.05)
    # counting noise is 3e-4; what is left are the steps of the grids of tilts, y and thickness
    assert found.thickness == pytest.approx(truth.thickness, rel=0.01)
    assert found.sigma == pytest.approx(truth.sigma, rel=0.05)
    # centres are fitted on a grid of 0.02°
    np.testing.assert_allclose(found.centres, truth.centres, atol=np.radians(0.02))
    np.testing.assert_allclose(found.scales / found.scales.mean(), truth.scales / truth.scales.mean(), rtol=0.02)
    assert target.statistics(target.i_calc(structure)).r_obs < 0.01


def test_the_other_hand_fits_worse(structure, quiet):
    right, wrong = fitted(structure, quiet.experiment), fitted(structure.change_hand(), quiet.experiment)
    r_right, r_wrong = (
        t.statistics(t.i_calc(s)).r_obs for t, s in ((right, structure), (wrong, structure.change_hand()))
    )
    assert r_wrong > 3.0 * r_right


@pytest.mark.parametrize("geometry", ScanGeometry)
def test_rows_are_all_that_the_scan_sweeps(structure, geometry):
    scan = replace(SCAN, geometry=geometry, frames=2, d_min=1.2, rsg_max=0.8)
    experiment = simulated(structure, scan=scan, solver="kinematical").experiment
    assert experiment.geometry is geometry
    for frame in experiment.frames:
        found = {tuple(h) for h in experiment.reflections.hkl[experiment.reflections.frame_id == frame.id].tolist()}
        grid = np.stack(np.meshgrid(*(np.arange(-8, 9),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        g = frame_vectors(experiment, frame, grid)
        length = np.linalg.norm(g, axis=1)
        rsg = np.abs(excitation_error(g, 1.0 / experiment.wavelength)) / np.maximum(
            scan_lever(experiment, g) * frame.semi_angle, 1e-12
        )
        assert found == {tuple(h) for h in grid[(length > 0) & (length <= 1.0 / 1.2) & (rsg <= 0.8)].tolist()}


def test_noise_is_what_its_sigma_says(structure):
    noise = replace(QUIET, counts=100.0, background=5.0)
    result = simulated(structure, noise=noise, scan=replace(SCAN, step=0.05, frames=20), solver="kinematical")
    rows = result.experiment.reflections
    assert result.expected.mean() == pytest.approx(100.0)
    deviates = (rows.intensity - result.expected) / rows.sigma
    n = len(rows)
    assert n > 300
    assert abs(deviates.mean()) < 4.0 / np.sqrt(n)
    assert deviates.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(n))
    assert (rows.intensity < 0.0).any()
    assert result.r_noise > 0.01


def test_program_writes_what_it_says(tmp_path, model, capsys):
    prefix = tmp_path / "out"
    program.run([str(model), *SMALL, f"output.prefix={prefix}", "scan.geometry=precession", "beam.wavelength=0.0197"])
    experiment = read_experiment(f"{prefix}.cif_pets")
    assert experiment.wavelength == 0.0197
    assert [np.degrees(frame.alpha) for frame in experiment.frames] == pytest.approx([-50.0, -48.0])
    assert f"wrote {prefix}.cif_pets" in capsys.readouterr().out


def test_same_seed_same_file(tmp_path, model):
    texts = []
    for prefix, seed in (("a", 5), ("b", 5), ("c", 6)):
        program.run([str(model), *SMALL, f"output.prefix={tmp_path / prefix}", f"seed={seed}"])
        texts.append((tmp_path / f"{prefix}.cif_pets").read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_orientation_is_that_asked_for(tmp_path, model):
    """By 90° about x, y and z in turn: a* (along x at first) stays, goes to −z, stays."""
    prefix = tmp_path / "out"
    program.run([str(model), *SMALL, f"output.prefix={prefix}", "scan.orientation=90 90 90"])
    experiment = read_experiment(f"{prefix}.cif_pets")
    np.testing.assert_allclose(experiment.orientation @ [1.0, 0.0, 0.0], [0.0, 0.0, -1.0], atol=1e-8)


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("thickness.value=-3", "thickness"),
        ("thickness.value=0", "nm"),
        ("noise.counts=0", "counts"),
        ("noise.background=-1", "background"),
        ("scan.frames=0", "at least one frame"),
        ("scan.semi_angle=0", "semi-angle"),
        ("scan.semi_angle=0.0001", "semi_angle"),
        ("selection.d_min=0", "d_min"),
        ("beams.g_max=0.5", "g_max"),
        ("spread.sigma=20", "spread"),
        ("solver.name=magic", "magic"),
        ("beam.energy=2", "energy"),
        ("beam.wavelength=2", "wavelength"),
        ("beams.s_max=0", "s_max"),
        ("seed=-1", "seed"),
        ("nproc=0", "nproc"),
        ("thickness.value=None", "thickness.value"),
        ("output.prefix=nowhere/at/all", "nowhere"),
        ("no.such.parameter=1", "not recognized"),
        ("missing.cif_pets", "missing"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, model, capsys, argument, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        program.run([str(model), *SMALL, argument])
    assert caught.value.code == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(said) == 1
    assert said[0].startswith("Sorry: ")
    assert word in said[0]
    assert not list(tmp_path.glob("*cif_pets"))


def test_no_model_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        program.run(["scan.frames=2"])
    assert caught.value.code == 1
    assert "no model given" in capsys.readouterr().err


def test_defaults_of_parameters_are_those_of_scripts(model, monkeypatch, tmp_path):
    class Arrived(Exception):
        pass

    def look(structure, settings, *rest):
        for given in (settings, settings.scan, settings.crystal, settings.noise):
            for field in fields(given):
                assert field.default in (MISSING, getattr(given, field.name)), field.name
        raise Arrived

    monkeypatch.setattr(program, "simulate", look)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Arrived):
        program.run([str(model)])
