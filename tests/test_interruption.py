"""Programs that are stopped: what is done is kept and called what it is, and a refinement goes on to the same end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edtbx.levels.sampling_levels import COARSE
from edtbx_cctbx import KinematicalTarget, crystallographic_ls, read_experiment, read_model
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.io.checkpoint import Checkpoint
from edtbx_cctbx.programs import compare, refine
from edtbx_cctbx.refinement import cycles
from edtbx_cctbx.refinement.parameters import StructureParameters
from edtbx_cctbx.refinement.refine import refine as refine_both
from edtbx_cctbx.refinement.settings import RefinementSettings
from edtbx_cctbx.targets.scattering_model import ScatteringModel
from edtbx_launch.signals import Interrupted, catch_signals, exit_status, finishing, shielded

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
START, MODEL, DATA = (str(EXAMPLES / name) for name in ("start.cif", "example.cif", "example.cif_pets"))
FEW = ["frames.last=3", "nproc=2"]
METHODS = {"gradient": (StructureParameters, "value_and_gradient"), "least_squares": (crystallographic_ls, "build_up")}


class Killed(BaseException):
    """What no program catches."""


def stopped_after(monkeypatch, owner, method: str, calls: int, stop: BaseException) -> list[str]:
    """Let a method raise once it has been called so many times; the solvers that it was called for."""
    whole = getattr(owner, method)
    solvers: list[str] = []

    def stopping(self, *arguments):
        target = arguments[0] if arguments else self.observations
        solvers.append(target.solver_name)
        if len(solvers) > calls:
            raise stop
        return whole(self, *arguments)

    monkeypatch.setattr(owner, method, stopping)
    return solvers


def test_a_refinement_interrupted_in_the_first_theory_has_that_one_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cycles, "_FIRST_SHIFT", 0.5)  # the first stage takes several cycles
    calls = stopped_after(monkeypatch, crystallographic_ls, "build_up", 2, Interrupted(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        refine.run([START, DATA, *FEW, f"output.prefix={tmp_path / 'x'}"])
    assert ended.value.code == 143
    assert calls == ["kinematical"] * 3
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["interrupted"] == "SIGTERM"
    assert written["dynamical"] is None
    assert written["theory"] == "kinematical"
    assert written["incomplete"]["kinematical"].startswith("first, 3 frames, cycle 1")
    shown = capsys.readouterr().out
    (head,) = (line for line in shown.splitlines() if line.startswith("interrupted"))
    assert head.split() == ["interrupted", "kinematical"]
    assert "restart=True" in shown
    assert "Job complete" not in shown
    cif = (tmp_path / "x.cif").read_text()
    assert "Interrupted (SIGTERM)" in cif
    assert re.search(r"_refine\.diffraction_theory\s+kinematical", cif)
    assert "REM Interrupted (SIGTERM)" in (tmp_path / "x.res").read_text()
    moved = read_model(tmp_path / "x.cif").sites_frac() - read_model(START).sites_frac()
    assert np.abs(moved.as_double().as_numpy_array()).max() > 1e-3  # the structure of the last whole cycle


def test_the_structure_kept_is_that_of_the_intensities(monkeypatch):
    """Both are of the last whole cycle: not those of the next one, whose structure was there when it was interrupted."""
    monkeypatch.setattr(cycles, "_FIRST_SHIFT", 0.5)
    stopped_after(monkeypatch, crystallographic_ls, "build_up", 3, KeyboardInterrupt())
    experiment, structure = read_experiment(DATA).select_frames([1, 2, 3]), read_model(START)
    found = refine_both(experiment, structure, RefinementSettings(nproc=2)).kinematical
    sampling = replace(
        COARSE, thickness_max=1.01 * found.nuisance.thickness, thickness_step=found.nuisance.thickness / 100
    )
    target = KinematicalTarget(experiment, structure, nuisance=found.nuisance, sampling=sampling)
    apart = [
        np.linalg.norm(to_numpy(target.i_calc(model).data()) - found.i_calc) / np.linalg.norm(found.i_calc)
        for model in (found.structure, structure)
    ]
    assert apart[0] < 0.03
    assert apart[1] > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_before_anything_is_done_it_writes_nothing(method, tmp_path, monkeypatch, capsys):
    stopped_after(monkeypatch, *METHODS[method], 0, KeyboardInterrupt())
    with pytest.raises(SystemExit) as ended:
        refine.run([START, DATA, *FEW, f"refinement.method={method}", f"output.prefix={tmp_path / 'x'}"])
    assert ended.value.code == 130
    assert re.fullmatch("Sorry: interrupted .*\n", capsys.readouterr().err)
    assert {path.name for path in tmp_path.iterdir()} <= {"x.checkpoint"}


def test_a_comparison_interrupted_in_the_second_theory_has_the_first(tmp_path, monkeypatch, capsys):
    whole = ScatteringModel.fit_coarse

    def stopping(scattering, *arguments):
        if scattering.solver_name != "kinematical":
            raise Interrupted(signal.SIGINT)
        return whole(scattering, *arguments)

    monkeypatch.setattr(ScatteringModel, "fit_coarse", stopping)
    with pytest.raises(SystemExit) as ended:
        compare.run([MODEL, DATA, *FEW, f"output.prefix={tmp_path / 'x'}"])
    assert ended.value.code == 130
    written = json.loads((tmp_path / "x.json").read_text())
    assert (written["interrupted"], written["dynamical"]) == ("SIGINT", None)
    assert written["kinematical"]["n_all"] > 0
    assert "dynamical" not in capsys.readouterr().out.partition("interrupted  ")[2].splitlines()[0]


def contents(folder: Path, name: str) -> dict[str, str]:
    """What a refinement wrote, but for its times and what it was told of files."""
    summary = json.loads((folder / f"{name}.json").read_text())
    del summary["seconds"], summary["passes"], summary["parameters"]
    texts = {end: (folder / f"{name}{end}").read_text() for end in (".cif", ".res", "_reflections.csv")}
    return {"summary": json.dumps(summary), **texts}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(method, tmp_path, monkeypatch):
    """Killed several times, in both theories; the last digit counts."""
    options = [START, DATA, *FEW, "solver.name=two_beam", f"refinement.method={method}", "refinement.cycles=3"]
    options += ["selection.d_min=0.9"] if method == "gradient" else []
    options += [f"refinement.anisotropic={'all' if method == 'least_squares' else 'none'}", "output.prefix=x"]
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    refine.run(options)
    assert not Path("x.checkpoint").exists()
    monkeypatch.chdir(tmp_path / "killed")
    solvers: set[str] = set()
    restart: list[str] = []
    for _ in range(50):
        with monkeypatch.context() as patch:
            calls = stopped_after(patch, *METHODS[method], 5 if method == "least_squares" else 20, Killed())
            try:
                refine.run([*options, *restart])
                break
            except Killed:
                restart = ["restart=True"]
                solvers.update(calls[-1:])
    assert restart
    assert solvers == {"kinematical", "two_beam"}
    assert contents(tmp_path / "killed", "x") == contents(tmp_path / "whole", "x")
    assert not Path("x.checkpoint").exists()


def test_a_checkpoint_belongs_to_one_run(tmp_path, monkeypatch, capsys):
    options = [START, DATA, *FEW, "solver.name=two_beam", f"output.prefix={tmp_path / 'x'}"]
    with monkeypatch.context() as patch:
        stopped_after(patch, crystallographic_ls, "build_up", 2, Killed())
        with pytest.raises(Killed):
            refine.run(options)
    kept = (tmp_path / "x.checkpoint").read_bytes()
    for more, said in (
        (["refinement.cycles=2", "restart=True"], "another refinement.cycles (10, not 2)"),
        ([], "restart=True goes on with it"),
    ):
        with pytest.raises(SystemExit) as ended:
            refine.run([*options, *more])
        assert ended.value.code == 1
        assert said in capsys.readouterr().err
        assert (tmp_path / "x.checkpoint").read_bytes() == kept
    (tmp_path / "x.checkpoint").write_bytes(kept[: len(kept) // 2])
    with pytest.raises(SystemExit):
        refine.run([*options, "restart=True"])
    assert "x.checkpoint is no checkpoint to go on from" in capsys.readouterr().err


def test_steps_are_done_once_and_those_within_are_forgotten(tmp_path):
    path, done = tmp_path / "c", []

    def inner(name):
        done.append(name)
        return name

    def outer(checkpoint, stop):
        first = checkpoint.step("first", lambda: inner("first"))
        if stop:
            raise Killed
        return first + checkpoint.step("second", lambda: inner("second"))

    checkpoint = Checkpoint(path, {"input": "a"})
    with pytest.raises(Killed):
        checkpoint.step("outer", lambda: outer(checkpoint, True))
    checkpoint = Checkpoint.read(path, {"input": "a"})
    assert not checkpoint.has_news
    assert checkpoint.step("outer", lambda: outer(checkpoint, False)) == "firstsecond"
    assert done == ["first", "second"]
    size = path.stat().st_size
    again = Checkpoint.read(path, {"input": "a"})
    assert again.step("outer", lambda: 1 / 0) == "firstsecond"
    assert path.stat().st_size == size
    again.remove()
    assert not path.exists()


@pytest.fixture
def handlers():
    """Signals are caught, also where these tests run in the background, and their handlers put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_signal_waits_while_files_are_written(capfd):
    caught = catch_signals()
    done = []

    def write():
        with shielded():
            signal.raise_signal(signal.SIGTERM)
            done.append("written")

    with pytest.raises(Interrupted, match="SIGTERM") as stop:
        write()
    assert exit_status(stop.value) == 143
    assert done == ["written"]
    assert caught == [signal.SIGTERM]
    assert capfd.readouterr().err == "SIGTERM: stopping, what is done is kept; once more leaves at once\n"


@pytest.mark.usefixtures("handlers")
def test_a_signal_when_all_is_computed_ends_the_program_when_all_is_written(capfd):
    caught = catch_signals()
    done = []

    def write(signals):
        with finishing():
            for number in signals:
                signal.raise_signal(number)
            done.append("written")

    with pytest.raises(SystemExit) as ended:
        write([signal.SIGTERM])
    assert ended.value.code == 143
    assert done == ["written"]
    assert capfd.readouterr().err == "SIGTERM: all is computed and being written; once more leaves at once\n"
    with pytest.raises(Interrupted) as stop:
        write([signal.SIGTERM, signal.SIGINT])
    assert stop.value.while_writing
    assert exit_status(stop.value) == 130
    assert done == ["written"]
    assert caught == []


@pytest.mark.usefixtures("handlers")
def test_signals_that_are_ignored_stay_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    caught = catch_signals()
    with shielded():
        signal.raise_signal(signal.SIGINT)
    assert caught == []
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def started(program: str, *arguments: str, folder: Path) -> subprocess.Popen:
    path = os.pathsep.join(str(EXAMPLES.parent / root) for root in ("plugin", "adapters"))
    return subprocess.Popen(
        [sys.executable, "-c", f"import edtbx_launch; edtbx_launch.{program}()", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def catches(process: subprocess.Popen, number: int) -> bool:
    """Whether a process has a handler for a signal, as Linux tells."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status).group(1), 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux when signals are caught")
def test_a_signal_while_modules_are_loaded(tmp_path):
    process = started("compare", MODEL, DATA, folder=tmp_path)
    while not catches(process, signal.SIGTERM):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown == ""
    assert "Traceback" not in said
    assert said == "SIGINT: stopping before anything was done\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_arguments_are_read(tmp_path):
    """argparse puts things right in a ``finally`` that stumbles, and shows that."""
    code = (
        "import argparse, signal, edtbx_launch\n"
        "argparse.ArgumentParser._get_positional_actions = lambda parser: signal.raise_signal(signal.SIGTERM)\n"
        "edtbx_launch.compare()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, MODEL, DATA],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (143, "SIGTERM: stopping before anything was done\n")


def test_a_signal_in_the_middle_of_the_work(tmp_path):
    process = started("refine", START, DATA, *FEW, "output.prefix=x", folder=tmp_path)
    begun = []
    for line in process.stdout:
        begun.append(line)
        if "cycle 1, R(obs)" in line:
            break
    process.send_signal(signal.SIGTERM)
    shown, said = process.communicate(timeout=120)
    assert process.returncode == 143, "".join(begun) + said
    assert said == "SIGTERM: stopping, what is done is kept; once more leaves at once\n"
    assert "Interrupted (SIGTERM)" in shown
    assert json.loads((tmp_path / "x.json").read_text())["interrupted"] == "SIGTERM"
    assert (tmp_path / "x.checkpoint").exists()
