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


ASK = """
for FOUND in ("", "1.0.10", "0.9"):
    try:
        registry.create("abtem")
    except ValueError as error:
        print(error)
FOUND = ""
import edtbx_abtem.solver
"""


def test_nothing_is_said_before_it_is_asked_for_and_the_extra_then():
    """In a fresh interpreter with that version of abTEM, or none; a warning is an error there."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(["FOUND = ''", HAVE, REGISTER, ASK])],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("plugin", "adapters"))},
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line, said in zip(lines, ("which is not installed here", "got 1.0.10", "got 0.9"), strict=True):
        assert said in line
        assert line.endswith("python -m pip install 'edtbx[abtem]'")
    *_, last = done.stderr.strip().splitlines()
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
