"""The adapter to abTEM where abTEM is missing or too old: silent until it is asked for, then one line with the remedy."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import edtbx_abtem
from edtbx.solvers import registry

ROOT = Path(__file__).resolve().parents[1]
HAVE = """
import importlib.metadata
known = importlib.metadata.version
def version(name):
    if name != "abtem":
        return known(name)
    if not FOUND:
        raise importlib.metadata.PackageNotFoundError(name)
    return FOUND
importlib.metadata.version = version
"""
REGISTER = """
import sys
import edtbx_abtem
from edtbx.solvers.registry import SolverRegistry
registry = SolverRegistry()
registry.collect(edtbx_abtem, "here")
assert list(registry.origins) == ["abtem"]
assert "abtem" not in sys.modules
"""


def run(found, *lines):
    """A fresh interpreter in which that version of abTEM is installed; a warning is an error there."""
    code = "\n".join([f"FOUND = {found!r}", HAVE, REGISTER, *lines])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("plugin", "adapters"))},
        check=False,
    )


@pytest.mark.parametrize("found", ["", "1.0.10"])
def test_nothing_is_said_before_it_is_asked_for(found):
    done = run(found)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("found", "said"), [("", "which is not installed here"), ("1.0.10", "got 1.0.10"), ("0.9", "got 0.9")]
)
def test_who_asks_for_it_is_told_the_extra(found, said):
    done = run(found, "try:\n    registry.create('abtem')\nexcept ValueError as error:\n    print(error)")
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert done.stdout.strip().endswith("python -m pip install 'edtbx[abtem]'")
    assert done.stdout.count("\n") == 1


def test_so_is_who_imports_the_solver():
    done = run("", "import edtbx_abtem.solver")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: ")
    assert "edtbx[abtem]" in last


def test_it_is_an_entry_point(repository: Path):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["edtbx"] == {"abtem": edtbx_abtem.__name__}
    assert "abtem" in project["optional-dependencies"]


def test_it_is_told_from_the_built_in_solvers(monkeypatch):
    """Both come with edtbx: the adapter goes by its module, so that a name given twice can be traced."""
    ours = SimpleNamespace(
        name="abtem", module="edtbx_abtem", dist=SimpleNamespace(name="edtbx"), load=lambda: edtbx_abtem
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: [ours])
    registry.installed_solvers.cache_clear()
    try:
        origins = registry.installed_solvers().origins
    finally:
        registry.installed_solvers.cache_clear()
    assert origins["abtem"] == "edtbx_abtem"
    assert origins["eigen"] == "edtbx"
