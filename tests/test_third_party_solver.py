"""A solver package from outside, installed as its author would, conforms and is known to the programs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edtbx.solvers.registry import SolverRegistry
from edtbx.testing import check_solver

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "examples" / "third_party_solver"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where pip put the package: a folder that new interpreters find, and this one does not."""
    target = tmp_path_factory.mktemp("site")
    # the build backend is that of the test environment: nothing is downloaded
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, PACKAGE],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def run(site, *arguments):
    """A new interpreter in which the package is installed."""
    paths = os.pathsep.join(str(path) for path in (site, ROOT / "plugin", ROOT / "adapters"))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=site,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "error"},
        check=False,
    )


def test_it_is_registered_and_conforms(site):
    code = """
from edtbx.solvers.registry import installed_solvers
from edtbx.testing import check_solver
import edtbx_expm
print(installed_solvers().origins["expm"], edtbx_expm.__file__)
print(check_solver("expm"))
"""
    done = run(site, "-c", code)
    assert done.returncode == 0, done.stderr
    first, report = done.stdout.split("\n", 1)
    assert first == f"edtbx-expm {site / 'edtbx_expm.py'}"
    assert "all is well" in report
    assert "skipped" not in report  # its adjoint included


def test_compare_takes_it_by_name(site, tmp_path):
    model, data = (str(ROOT / "examples" / name) for name in ("example.cif", "example.cif_pets"))
    code = "import sys; from edtbx_cctbx.programs.compare import run; run(sys.argv[1:])"
    quick = ["frames.last=1", "beams.s_max=0.004", "beams.g_max=1.0", "selection.d_min=1.1", "accuracy.tolerance=2"]
    fixed = ["thickness.value=400", "thickness.refine=False", "spread.sigma=0", "spread.refine=False"]
    done = run(site, "-c", code, model, data, "solver.name=expm", *quick, *fixed, f"output.prefix={tmp_path / 'x'}")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["solver"] == "expm"
    assert found["dynamical"]["r_obs"] < 0.5 * found["kinematical"]["r_obs"]


def test_it_is_one_page():
    lines = sum(
        len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in ("edtbx_expm.py", "pyproject.toml")
    )
    assert lines <= 80
    assert sorted(path.name for path in PACKAGE.iterdir() if path.suffix in (".py", ".toml")) == [
        "edtbx_expm.py",
        "pyproject.toml",
    ]


def test_the_plugin_in_the_readme_works(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    snippet = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "@hookimpl" in block)
    (tmp_path / "readme_plugin.py").write_text(snippet, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    registry = SolverRegistry()
    registry.collect(__import__("readme_plugin"), "the README")
    (name,) = registry.origins
    assert check_solver(registry.create(name)).failed == ()
