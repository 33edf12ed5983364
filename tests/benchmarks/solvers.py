"""Cost of the propagator beside the eigensolver on one frame, each as coarse as an error of 0.002 in R of √I allows.

    python tests/benchmarks/solvers.py MODEL DATA [THICKNESS] [FRAME]

Both are run on the same orientations, in this process, on one thread; errors are against a converged propagation in double
precision (s_strong 0.04, s_max 0.16 Å⁻¹). The rate of the matrix products is measured beside them.
"""

import edtbx_cctbx  # isort: skip  (before numpy, scipy and numba)

import io
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from edtbx.forward import Sampling
from edtbx.nuisance import Nuisance
from edtbx.solvers.block import Accuracy, Block, pullback
from edtbx.solvers.eigen import EigenSolver
from edtbx.solvers.folding import cheapest_groups
from edtbx.solvers.propagator import PropagatorSolver

TOLERANCE = 0.002
TILTS, SPREAD, NODES = 64, np.radians(0.3), 9
UNFITTED = Nuisance(shape="slab", thickness=0.0, sigma=0.0, centres=np.zeros(0), scales=np.zeros(0))


def timed(function: Callable[[], object], repeats: int = 2) -> tuple[object, float]:
    """The result and the least of the times in s."""
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - began)
    return result, best


def error(found: np.ndarray, true: np.ndarray) -> float:
    """R of √I of the intensities summed over the spread."""
    a, b = (np.sqrt(np.maximum(i.mean(axis=0), 0.0)) for i in (found, true))
    return float(np.abs(a - b).sum() / b.sum())


def product_rate(real: bool) -> float:
    """GF/s of a (200, 200)·(200, 64) product in single precision."""
    kind, work = (np.float32, 2.0) if real else (np.complex64, 8.0)
    a, x = np.ones((200, 200), kind), np.ones((200, 64), kind)
    _, seconds = timed(lambda: [a @ x for _ in range(200)], 5)
    return work * 200 * 200 * 200 * 64 / seconds / 1e9


def report(label: str, beams: float, solver: object, block: Block, true: np.ndarray, seed: np.ndarray) -> float:
    """Print a row; the error."""
    found, forward = timed(lambda: solver.intensities(block))
    _, gradient = timed(lambda: pullback(solver, block)[1](seed))
    waves = len(block.s_g)
    off = error(found, true)
    print(
        f"{label:<42}{beams:7.0f}{off:9.4f}{1e3 * forward / waves:12.3f}{1e3 * gradient / waves:12.3f}"
        f"{gradient / forward:8.1f}",
        flush=True,
    )
    return off


def main() -> None:
    """Both solvers, from coarse to the first that is good enough."""
    model, data = sys.argv[1:3]
    thickness = float(sys.argv[3]) if len(sys.argv) > 3 else 1000.0
    structure, experiment = edtbx_cctbx.read_model(model, log=io.StringIO()), edtbx_cctbx.read_experiment(data)
    ids = [frame.id for frame in experiment.frames]
    frame_id = int(sys.argv[4]) if len(sys.argv) > 4 else ids[len(ids) // 2]
    sampling = Sampling(
        accuracy=Accuracy(s_max=0.16),
        tilts=TILTS,
        spread_reach=SPREAD,
        spread_spacing=2 * SPREAD / (NODES - 1),
        thickness_max=thickness,
        thickness_step=thickness / 40,
    )
    target = edtbx_cctbx.DynamicalTarget(
        experiment.select_frames([frame_id]), structure, sampling=sampling, nuisance=UNFITTED, nproc=1
    )
    waves, grid = target.forward.frames[0].waves, target.forward.grid.thickness
    f = target.structure_factors(structure)

    def block(**limits: float) -> Block:
        return replace(waves, accuracy=Accuracy(**limits)).block(f, grid)

    converged = PropagatorSolver(precision="double")
    true = converged.intensities(block(s_max=0.16, s_strong=0.04, tolerance=1e-8))
    example = block(s_max=0.16)
    seed = np.random.default_rng(1).normal(size=true.shape)
    real = not np.iscomplexobj(example.u)
    print(
        f"{data}, frame {frame_id}, {len(example.s_g)} orientations, {len(waves.wanted)} reflections, to {thickness:g} Å"
    )
    print(f"matrix products of this machine: {product_rate(real):.0f} GF/s ({'real' if real else 'complex'}, single)")
    print(f"{'':<42}{'beams':>7}{'R(√I)':>9}{'forward/ms':>12}{'gradient/ms':>12}{'ratio':>8}   (each per orientation)")
    for s_strong, s_max in ((0.0075, 0.06), (0.0075, 0.12), (0.01, 0.12), (0.015, 0.12), (0.02, 0.16), (0.03, 0.16)):
        one = block(s_max=s_max, s_strong=s_strong, tolerance=1e-5)
        strong = np.average([len(group.strong) for group in cheapest_groups(one, 6)])
        if (
            report(f"propagator, {s_strong} folded to {s_max}", strong, PropagatorSolver(), one, true, seed)
            <= TOLERANCE
        ):
            break
    for s_max in (0.01, 0.02, 0.03, 0.04, 0.06, 0.08):
        one = block(s_max=s_max)
        beams = np.mean(np.sum(np.abs(one.s_g) <= s_max, axis=1))
        if report(f"eigen, {s_max}", beams, EigenSolver(), one, true, seed) <= TOLERANCE or beams > 400:
            break


if __name__ == "__main__":
    with threadpool_limits(1, user_api="blas"):
        main()
