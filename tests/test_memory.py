"""What a problem takes of the memory is told before it is taken: the estimates against measured peaks, and who asks."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_target import SAMPLING, experiment_for, model_in, nuisance_for, target_for

from edtbx.execution import memory
from edtbx.execution.executors import frame_threads
from edtbx.execution.memory import (
    FrameSize,
    TooLarge,
    available_bytes,
    beams_near,
    bytes_text,
    frames_bytes,
    vectors_bytes,
)
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.simulation import Crystal, Noise, Scan
from edtbx.levels.level_search import level_for
from edtbx.levels.sampling_levels import BEAMS, ORIENTATIONS, level
from edtbx.measurement.experiment import ScanGeometry
from edtbx.solvers.block import Accuracy
from edtbx_cctbx.programs import compare
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.simulation import SimulationSettings, simulate

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def system(root, free, files=None):
    """The files of a system that has so many kB of memory available."""
    for name, text in {"proc/meminfo": f"MemTotal: 99999 kB\nMemAvailable: {free} kB\n", **(files or {})}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder, limit, usage, stat="", version=2):
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    return {f"{folder}/{names[0]}": limit, f"{folder}/{names[1]}": usage, f"{folder}/memory.stat": stat}


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
SYSTEMS = {
    "machine": ({}, 5_120_000),
    "group": ({"proc/self/cgroup": "0::/a/b\n", **group(f"{V2}/a/b", "1000000\n", "400000\n")}, 600_000),
    "group above": ({"proc/self/cgroup": "0::/a/b\n", **group(f"{V2}/a", "900000", "400000")}, 500_000),
    "files": (
        {"proc/self/cgroup": "0::/\n", **group(V2, "1000000", "400000", "anon 1\ninactive_file 50000\n")},
        650_000,
    ),
    "no limit": ({"proc/self/cgroup": "0::/\n", **group(V2, "max", "400000")}, 5_120_000),
    "version 1": (
        {"proc/self/cgroup": "5:cpu:/\n4:memory:/hidden\n", **group(V1, "1000000", "400000", version=1)},
        600_000,
    ),
    "version 1, no limit": (
        {"proc/self/cgroup": "4:memory:/\n", **group(V1, "9223372036854771712", "400000", version=1)},
        5_120_000,
    ),
    "used up": ({"proc/self/cgroup": "0::/\n", **group(V2, "1000", "4000")}, 0),
}


@pytest.mark.parametrize(("files", "expected"), SYSTEMS.values(), ids=SYSTEMS)
def test_what_is_available(files, expected, tmp_path):
    assert available_bytes(system(tmp_path, 5000, files)) == expected


def test_this_machine_has_some():
    assert 1e6 < available_bytes() < 1e15


def peaks(code):
    """What a process of its own prints; ``peak(function)`` in it is by how many bytes its memory grew at most."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("no peaks without /proc/self/clear_refs")
    helper = """
import edtbx_cctbx, gc, json
def status(key):
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
def peak(function):
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    kept = function()
    return status("VmHWM") - before
"""
    done = subprocess.run([sys.executable, "-c", helper + code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_g_vectors_take_what_is_estimated():
    cell, g_max = (6.0, 7.0, 12.0, 80.0, 90.0, 100.0), 4.0
    measured = peaks(f"""
from cctbx import crystal
from edtbx_cctbx.structure.structure_factors import Expansion, g_vectors
symmetry = crystal.symmetry({cell}, "P 1")
def both():
    vectors = g_vectors(symmetry, {g_max})
    return vectors, Expansion.of(symmetry, vectors)
print(json.dumps(peak(both)))
""")
    assert measured > 5e7
    assert 0.9 * measured < vectors_bytes(cell, g_max) < 1.5 * measured


@pytest.mark.parametrize(("solver", "s_max", "s_strong"), [("propagator", 0.25, 0.003), ("eigen", 0.08, np.inf)])
def test_frames_take_what_is_estimated(solver, s_max, s_strong):
    forward, back, *sizes = peaks(f"""
from edtbx.intensities.sampling import Sampling
from edtbx.solvers.block import Accuracy
import io, numpy as np
from dataclasses import asdict
from math import inf
structure = edtbx_cctbx.read_model({str(EXAMPLES / "example.cif")!r}, log=io.StringIO())
experiment = edtbx_cctbx.read_experiment({str(EXAMPLES / "example.cif_pets")!r}).select_frames([1])
small, large = (
    Sampling(accuracy=Accuracy(s_max=s, s_strong=min({s_strong}, 100.0), tolerance=1e-4), tilts=1, spread_reach=0.001,
             spread_spacing=0.001, thickness_max=500.0)
    for s in (0.02, {s_max})
)
target = edtbx_cctbx.DynamicalTarget(experiment, structure, solver={solver!r}, sampling=small, nproc=1)
f = target.structure_factors(structure)
target.forward.cubes(f), target.forward.target_and_gradient(f, target.nuisance)  # compiles
forward = target.forward.resampled(large)
numbers = [peak(lambda: forward.cubes(f)), peak(lambda: forward.target_and_gradient(f, target.nuisance))]
print(json.dumps([*numbers, *asdict(forward.waves[0].size(len(forward.grid.thickness), len(forward.grid.y))).values()]))
""")
    names = ("beams", "orientations", "nodes", "rows", "thicknesses")
    frames = [FrameSize(**dict(zip(names, sizes, strict=True)))]
    folds = s_strong < s_max
    for measured, derivatives in ((forward, False), (back, True)):
        estimated = frames_bytes(frames, 1, coupling_bytes=16.0, folds=folds, derivatives=derivatives)
        assert measured > 3e7
        assert 0.85 * measured < estimated < 1.6 * measured


@pytest.mark.parametrize("geometry", ScanGeometry)
@pytest.mark.parametrize("s_max", [0.03, 0.3])
def test_beams_are_as_many_as_estimated(geometry, s_max):
    structure = model_in("P 1")
    experiment = experiment_for(structure, geometry=geometry)
    sampling = replace(SAMPLING, accuracy=Accuracy(s_max=s_max))
    target = target_for(structure, experiment, sampling=sampling, g_max=2.5)
    estimated = beams_near(experiment.cell, 2.5, s_max, 0.03)
    assert 0.5 < estimated / target.forward.beams_per_frame < 1.5


def test_too_large_a_target_is_told_before_it_is_made(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000_000)
    structure = model_in("P 1")
    with pytest.raises(
        TooLarge, match=r"\|S_g\| up to 0.03 1/Å.* would take .* of memory, and 10 MB are free: lower g_max"
    ):
        target_for(structure, experiment_for(structure), g_max=9.0)


@pytest.mark.parametrize("ask", ["cubes", "i_calc", "derivatives"])
def test_too_large_frames_are_told_before_they_are_computed(ask, monkeypatch):
    structure = model_in("P 1")
    target = target_for(structure, experiment_for(structure), nproc=None, executor=frame_threads(2))
    f = target.f_obs().structure_factors_from_scatterers(structure, algorithm="direct", cos_sin_table=False).f_calc()
    asked = {
        "cubes": lambda: target.scattering.cubes(structure),
        "i_calc": lambda: target.i_calc(structure),
        "derivatives": lambda: target(f, True),
    }[ask]
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
    with pytest.raises(TooLarge, match=r"beams and 25 orientations, 2 of them at a time, .*s_max .*nproc=1 takes"):
        asked()


def test_levels_that_do_not_fit_are_left_out(monkeypatch):
    structure = model_in("P 1")
    experiment = experiment_for(structure)
    target = target_for(structure, experiment)
    f, nuisance = target.structure_factors(structure), nuisance_for(experiment)

    def chosen():
        return level_for(target.forward, f, nuisance, NuisanceBounds(), 1e-9)

    assert chosen().level == level(len(BEAMS) - 3, len(ORIENTATIONS) - 3)
    fits = ForwardModel.expect_room

    def expect_room(model, *args, **kwds):
        if model.sampling.accuracy.s_max > BEAMS[-2].s_max:
            raise TooLarge("the finest level does not fit")
        fits(model, *args, **kwds)

    monkeypatch.setattr(ForwardModel, "expect_room", expect_room)
    found = chosen()
    assert found.level.accuracy == BEAMS[-4]
    assert not found.kept
    assert np.isfinite(found.error)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1)
    with pytest.raises(TooLarge):
        chosen()


def test_many_tilts_and_nodes_are_told(monkeypatch):
    structure = model_in("P 1")
    monkeypatch.setattr(memory, "available_bytes", lambda: 50_000_000)
    fine = replace(SAMPLING, tilts=5000, spread_spacing=1e-4)
    with pytest.raises(TooLarge, match="71 nodes of the spread with up to 5000 tilts"):
        target_for(structure, experiment_for(structure), sampling=fine)


def test_too_large_a_simulation_is_told(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000_000)
    settings = SimulationSettings(
        wavelength=0.0335,
        orientation=np.eye(3),
        scan=Scan(first=0.0, step=0.02, frames=2, semi_angle=0.01, d_min=0.5),
        crystal=Crystal(shape="slab", thickness=300.0, sigma=0.0),
        noise=Noise(counts=100.0, background=0.0, orientation=0.0, scale=0.0),
        g_max=9.0,
    )
    with pytest.raises(TooLarge, match="lower g_max or s_max"):
        simulate(model_in("P 1"), settings, np.random.default_rng(0))


def test_a_program_says_it_in_one_line(tmp_path, capsys):
    files = [str(EXAMPLES / "example.cif"), str(EXAMPLES / "example.cif_pets"), "frames.last=2"]
    with pytest.raises(SystemExit) as stopped:
        compare.run([*files, f"output.prefix={tmp_path / 'x'}", "beams.g_max=10", "beams.s_max=1"])
    said = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 1
    assert len(said) == 1
    assert said[0].startswith("Sorry: beams out to 10 1/Å")
    assert list(tmp_path.iterdir()) == []


def test_memory_that_runs_out_all_the_same_is_one_line(monkeypatch, capsys):
    def out_of_memory(**kwds):
        raise MemoryError

    monkeypatch.setattr(command_line, "run_program", out_of_memory)
    with pytest.raises(SystemExit) as stopped:
        compare.run([])
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("Sorry: the memory is used up: lower beams.g_max")


def test_sizes_in_words():
    assert [bytes_text(x) for x in (2e6, 2.346e9, 4.06e11, 5e12)] == ["2 MB", "2.35 GB", "406 GB", "5 TB"]
