"""The examples run, and show what they claim."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.sampling import Sampling
from edtbx.measurement.selection import SelectionRules
from edtbx.solvers.block import Accuracy
from edtbx_cctbx import DynamicalTarget, KinematicalTarget, read_experiment, read_model


def run_example(script: Path) -> str:
    """What the script prints."""
    root = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join(str(root / name) for name in ("plugin", "adapters"))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "error"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_refinement(script: Path) -> tuple[float, float]:
    """R(obs) and the distance from the true positions in Å that the script prints."""
    r_obs, distance = re.findall(r"= (\d\.\d+)", run_example(script))
    return float(r_obs), float(distance)


def test_least_squares_find_the_structure_and_its_uncertainties(repository):
    printed = run_example(repository / "examples" / "least_squares.py")
    number = r" = (\d+\.\d+)"
    r_obs, goodness, distance = (
        float(re.search(re.escape(what) + number, printed).group(1))
        for what in ("R(obs)", "goodness of fit", "from the true positions")
    )
    assert r_obs < 0.03
    assert 0.7 < goodness < 1.3
    assert distance < 0.012
    uncertainties = [float(su) for su in re.findall(r"s\.u\. of O1\.[xyz]" + number, printed)]
    assert len(uncertainties) == 3
    assert 0.0001 < min(uncertainties) < max(uncertainties) < 0.002
    thickness, su = map(float, re.search(r"thickness = (\d+) A, s\.u\. (\d+) A", printed).groups())
    assert abs(thickness - 900.0) < 4.0 * su < 200.0


def test_two_lines_make_the_refinement_dynamical(repository, tmp_path):
    examples = repository / "examples"
    source = (examples / "kinematical_refinement.py").read_text()
    lines = source.splitlines()
    assert len(lines) <= 40
    changed = [n for n, line in enumerate(lines) if line.startswith("# ") and "in place of the one above" in line]
    assert len(changed) == 2
    for n in changed:
        assert lines[n].removeprefix("# ").partition("  #")[0] == lines[n - 1].partition("  #")[0].replace(
            "Kinematical", "Dynamical"
        )
        lines[n - 1] = lines[n].removeprefix("# ")
    for name in ("example.cif", "example.cif_pets"):
        (tmp_path / name).symlink_to(examples / name)
    dynamical = tmp_path / "dynamical_refinement.py"
    dynamical.write_text("\n".join(lines))
    r_kinematical, far = run_refinement(examples / "kinematical_refinement.py")
    r_dynamical, near = run_refinement(dynamical)
    assert r_dynamical < 0.5 * r_kinematical
    assert near < 0.012
    assert far > 2.0 * near


def test_example_model_is_chemically_sound(repository):
    """Bonds of L-alanine, the left hand of it, and no group element that inverts."""
    structure = read_model(repository / "examples" / "example.cif")
    assert structure.space_group().type().number() == 19
    site = dict(zip(structure.scatterers().extract_labels(), structure.sites_cart().as_numpy_array(), strict=True))
    bonds = {("C1", "C2"): 1.531, ("C2", "C3"): 1.525, ("C2", "N1"): 1.488, ("C1", "O1"): 1.242, ("C1", "O2"): 1.258}
    bonds |= (
        {("C2", "H1"): 1.093}
        | {("N1", h): 1.04 for h in ("H2", "H3", "H4")}
        | {("C3", h): 1.085 for h in ("H5", "H6", "H7")}
    )
    for (a, b), length in bonds.items():
        assert np.linalg.norm(site[a] - site[b]) == pytest.approx(length, abs=0.001)
    n, carboxyl, methyl = (site[name] - site["C2"] for name in ("N1", "C1", "C3"))
    assert n @ np.cross(carboxyl, methyl) == pytest.approx(2.6, abs=0.1)  # positive for an L-amino acid


def test_start_is_the_example_disturbed(repository):
    examples = repository / "examples"
    start, truth = read_model(examples / "start.cif"), read_model(examples / "example.cif")
    heavy = truth.select(~truth.hd_selection())
    assert list(start.scatterers().extract_labels()) == list(heavy.scatterers().extract_labels())
    shifts = np.linalg.norm((start.sites_cart() - heavy.sites_cart()).as_numpy_array(), axis=1)
    np.testing.assert_allclose(shifts, 0.05, atol=2e-4)


def test_example_data_are_dynamical(repository):
    """A coarse fit is enough to tell: the fine one of edtbx.compare reaches 0.031, the noise, against 0.10."""
    examples = repository / "examples"
    experiment, structure = read_experiment(examples / "example.cif_pets"), read_model(examples / "example.cif")
    assert (examples / "example.cif_pets").stat().st_size < 200_000
    options = {
        "sampling": Sampling(
            accuracy=Accuracy(s_max=0.01), tilts=18, thickness_max=1500.0, spread_reach=np.radians(0.2)
        ),
        "rules": SelectionRules(d_min=0.9),
        "bounds": NuisanceBounds(shapes=("wedge",)),
    }
    r = [
        t.statistics(t.i_calc(structure)).r_obs
        for t in (
            DynamicalTarget(experiment, structure, **options),
            KinematicalTarget(experiment, structure, **options),
        )
    ]
    assert r[0] < 0.045
    assert r[1] > 2.0 * r[0]


def test_the_map_shows_more_hydrogen_than_the_kinematical_one(repository):
    said = run_example(repository / "examples" / "difference_map.py")
    found = {kind: int(number) for kind, number in re.findall(r"(\w+): (\d+) of 7", said)}
    assert found["newton"] == 7
    assert found["fo_fc_kinematical"] <= 5
