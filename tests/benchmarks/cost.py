"""Cost of a wave: forward, gradient and rows of the Jacobian, of every contender at the same error.

    python -m pip install -e ".[test,benchmark]"
    python -m pytest tests/benchmarks/cost.py --benchmark-json=cost.json
    python tests/benchmarks/draw.py cost.json

Each takes as few beams as an error of 0.002 in R of √I allows, against a converged propagation in double precision; one
thread. Those that treat one orientation after another are given every sixteenth of some thousand (of large crystals every
64th), and are held to the same error on these. Every row of the result has its error, its beams and its orientations
beside the time.
"""

import edtbx_cctbx  # noqa: F401  # isort: skip  (before numpy, scipy and numba)

import time
from dataclasses import replace
from functools import cache

import frames
import numpy as np
import pytest
from contenders import EIGEN, OTHERS, PROPAGATOR
from threadpoolctl import threadpool_limits

from edtbx.intensities.frame_waves import Rows
from edtbx.solvers.block import Accuracy
from edtbx.solvers.folding import cheapest_groups
from edtbx.solvers.propagator import PropagatorSolver

pytest.importorskip("pytest_benchmark", reason='pip install -e ".[benchmark]"')

TOLERANCE = 0.002
HEAVY = {"CsPbBr3": 0.02}
"""Heavy atoms: 0.002 takes s_strong 0.06 Å⁻¹, 1500 beams, and no dense method gets there."""

MOST_BEAMS = 1000
"""Of a dense method: beyond, one frame takes half an hour."""

FOLDED = ((0.005, 0.06), (0.0075, 0.06), (0.01, 0.09), (0.015, 0.12), (0.02, 0.12), (0.03, 0.16))
"""s_strong and s_max in Å⁻¹, from coarse to fine."""

DENSE = (0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08)
"""s_max in Å⁻¹ of those that fold nothing."""

VOLUMES = (150.0, 400.0, 1000.0, 2000.0)
THICKNESSES = (200.0, 400.0, 800.0, 1600.0, 3200.0)
FEW = (1, 2, 3, 4, 6, 8, 12, 16)

converged = PropagatorSolver(precision="double")


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1, user_api="blas"):
        yield


def error(found, true):
    """R of √I of the intensities of the frame, summed over orientations and thicknesses."""
    a, b = (np.sqrt(np.maximum(i.sum(axis=(0, 2)), 0.0)) for i in (found, true))
    return float(np.abs(a - b).sum() / b.sum())


@cache
def reference(frame, step):
    strong = 0.06 if frame.name in HEAVY else 0.04
    return converged.intensities(frame.block(Accuracy(s_max=0.16, s_strong=strong, tolerance=1e-8), step))


@cache
def setting(frame, folds, step):
    """The coarsest accuracy that is good enough, and its error; the finest that is affordable if none is."""
    solver = PROPAGATOR if folds else EIGEN
    ladder = [Accuracy(s_strong=s, s_max=reach, tolerance=1e-5) for s, reach in FOLDED]
    ladder = ladder if folds else [Accuracy(s_max=s_max) for s_max in DENSE]
    best = None
    for accuracy in ladder:
        if not folds and best and dense_beams(frame, accuracy) > MOST_BEAMS:
            break
        best = accuracy, error(solver.intensities(frame.block(accuracy, step)), reference(frame, step))
        if best[1] <= HEAVY.get(frame.name, TOLERANCE):
            break
    return best


def dense_beams(frame, accuracy):
    return float(np.mean(np.sum(np.abs(frame.full.s_g) <= accuracy.s_max, axis=1)))


def beams(frame, contender, block):
    """Mean number of beams of a matrix."""
    if not contender.folds:
        return dense_beams(frame, block.accuracy)
    groups = cheapest_groups(block, 6)
    return float(np.average([len(g.strong) for g in groups], weights=[len(g.orientations) for g in groups]))


@cache
def product_rate(real, n=200, width=64):
    """GF/s of a (n, n)·(n, width) product in single precision: what the machine gives at best."""
    kind, work = (np.float32, 2.0) if real else (np.complex64, 8.0)
    a, x = np.ones((n, n), kind), np.ones((n, width), kind)
    best = np.inf
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(50):
            a @ x
        best = min(best, (time.perf_counter() - began) / 50)
    return work * n * n * width / best / 1e9


def operations(block):
    """Those of the products of a propagation; real columns are twice the orientations where the coupling is complex."""
    parts = list(PropagatorSolver()._series(block))
    each = 2.0 if np.iscomplexobj(block.u) else 1.0
    terms = sum(2.0 * each * s.a.size * s.d.shape[1] * (len(s.coefficients) - 1) for _, s in parts)
    folding = sum(2.0 * each**2 * len(g.strong) ** 2 * len(g.weak) for g, _ in parts)
    return terms + folding


def run(benchmark, what, series, frame, contender, block, function, off):
    """Time a function of a block, and note what it was."""
    if not contender.importable:
        pytest.skip(f"{contender.needs} is not installed")
    benchmark.pedantic(function, rounds=3 if contender.folds else 1, iterations=1, warmup_rounds=int(contender.folds))
    benchmark.extra_info.update(
        what=what,
        series=series,
        frame=frame.name,
        contender=contender.name,
        beams=beams(frame, contender, block),
        near=dense_beams(frame, Accuracy(s_max=0.02)),
        orientations=len(block.s_g),
        reflections=len(block.wanted),
        thickness=float(block.thickness[-1]),
        error=off,
    )


def every(frame, contender):
    """Which of the orientations a contender is given: all if it shares work between them, every so manieth if not."""
    if contender.folds:
        return 1
    return 16 if len(frame.waves.hkl) < 2000 else 64


def seed_of(block):
    return np.random.default_rng(1).normal(size=(len(block.weights), len(block.wanted), len(block.thickness)))


def prepared(frame, contender):
    step = every(frame, contender)
    accuracy, off = setting(frame, contender.folds, step)
    return frame.block(accuracy, step), off


def too_many(contender, frame, block):
    """Whether a method that is slower than the eigensolver would take minutes here."""
    return contender in OTHERS and beams(frame, contender, block) > 300


def frame_of(key):
    if not isinstance(key, str):
        return frames.synthetic(key)
    if not frames.DATA.is_dir():
        pytest.skip(f"real data absent: set EDTBX_DATA to their folder (looked in {frames.DATA})")
    return frames.measured(key)


everyone = pytest.mark.parametrize("contender", [PROPAGATOR, EIGEN, *OTHERS], ids=lambda c: c.name)
all_frames = pytest.mark.parametrize("key", [*VOLUMES, *frames.MEASURED])


@all_frames
@everyone
def test_forward_against_beams(benchmark, key, contender):
    frame = frame_of(key)
    block, off = prepared(frame, contender)
    if too_many(contender, frame, block):
        pytest.skip("takes too long")
    if contender in OTHERS and contender.importable:
        few = replace(block, s_g=block.s_g[::8], surface=block.surface[::8], weights=block.weights[:, ::8])
        np.testing.assert_allclose(contender.intensities(few), EIGEN.intensities(few), rtol=0, atol=1e-6)
    run(benchmark, "forward", "beams", frame, contender, block, lambda: contender.intensities(block), off)
    if contender is PROPAGATOR:
        seconds = benchmark.stats.stats.min
        benchmark.extra_info["rate"] = operations(block) / seconds / 1e9
        benchmark.extra_info["peak"] = product_rate(not np.iscomplexobj(block.u))


@all_frames
@everyone
def test_gradient_against_beams(benchmark, key, contender):
    frame = frame_of(key)
    if contender.gradient is None:
        pytest.skip("gives no derivatives")
    block, off = prepared(frame, contender)
    if too_many(contender, frame, block):
        pytest.skip("takes too long")
    seed = seed_of(block)
    run(benchmark, "gradient", "beams", frame, contender, block, lambda: contender.gradient(block, seed), off)


@pytest.mark.parametrize("key", [150.0, 400.0, "urea", "quartz", "CsPbBr3"])
@pytest.mark.parametrize("rows", [Rows.EXACT, Rows.LOCAL], ids=lambda rows: rows.value)
def test_jacobian_of_a_frame(benchmark, key, rows):
    if key == "CsPbBr3" and rows is Rows.EXACT:
        pytest.skip("takes too long")
    frame = frame_of(key)
    block, off = prepared(frame, PROPAGATOR)
    seed = np.ones((1, len(block.thickness))) / len(block.thickness)
    solver = PropagatorSolver()

    def everything():
        for _ in frame.waves.jacobian_rows(rows, solver, block, seed):
            pass

    run(benchmark, f"rows, {rows.value}", "beams", frame, PROPAGATOR, block, everything, off)


@pytest.mark.parametrize("thickness", THICKNESSES)
@pytest.mark.parametrize("contender", [PROPAGATOR, EIGEN], ids=lambda c: c.name)
@pytest.mark.parametrize("what", ["forward", "gradient"])
def test_cost_against_thickness(benchmark, thickness, contender, what):
    frame = frames.synthetic(400.0, thickness, tilts=max(12, round(60 * thickness / 800.0)))
    block, off = prepared(frame, contender)
    seed = seed_of(block)
    functions = {
        "forward": lambda: contender.intensities(block),
        "gradient": lambda: contender.gradient(block, seed),
    }
    run(benchmark, what, "thickness", frame, contender, block, functions[what], off)


@pytest.mark.parametrize("number", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("nproc", [1, 2])
def test_gradient_against_frames(benchmark, number, nproc):
    """Value and gradient of urea, at the level that refinement uses."""
    if not frames.DATA.is_dir():
        pytest.skip(f"real data absent: set EDTBX_DATA to their folder (looked in {frames.DATA})")
    target, structure = frames.experiment("urea", number, nproc)
    f = target.structure_factors(structure)

    def value_and_gradient():
        target.forward.target_and_gradient(f, target.nuisance)

    value_and_gradient()
    benchmark.pedantic(value_and_gradient, rounds=2, iterations=1)
    benchmark.extra_info.update(what="gradient", series="frames", frames=number, nproc=nproc)


@pytest.mark.parametrize("tilts", [4, 15, 60, 240])
def test_forward_against_tilts(benchmark, tilts):
    frame = frames.synthetic(400.0, tilts=tilts)
    block, off = prepared(frame, PROPAGATOR)
    run(benchmark, "forward", "tilts", frame, PROPAGATOR, block, lambda: PROPAGATOR.intensities(block), off)


@pytest.mark.parametrize("number", FEW)
@pytest.mark.parametrize("volume", VOLUMES[:3])
@pytest.mark.parametrize("contender", [PROPAGATOR, EIGEN], ids=lambda c: c.name)
def test_forward_of_few_orientations(benchmark, number, volume, contender):
    """Where the propagator begins to pay: neighbouring tilts of one frame, at the accuracy that suits all of it."""
    frame = frames.synthetic(volume)
    block, off = prepared(frame, contender)
    some = slice(0, number * 16, 16) if contender.folds else slice(0, number)
    few = replace(block, s_g=block.s_g[some], surface=block.surface[some], weights=block.weights[:, some])
    run(benchmark, "forward", "few orientations", frame, contender, few, lambda: contender.intensities(few), off)
