"""What large jobs take: memory of least squares on 500 frames, and frames by the thousand on the workers of a Dask cluster.

python tests/benchmarks/scale.py memory [--frames 500] [--volume 2000]
python tests/benchmarks/scale.py cluster tcp://host:8786 [--frames 4000]

The crystals are made up: light atoms at random places, 18 Å³ each, anisotropic, without a centre. ``memory`` builds the
equations of all parameters, and once more after a step, at a sampling that is coarse in orientations, on which what is kept
does not depend. ``cluster`` simulates the frames and does the same, all of it on the workers.
"""

import edtbx_cctbx  # isort: skip  (before numpy, scipy and numba)

import argparse
import resource
import sys
import time
from concurrent.futures import Executor
from contextlib import nullcontext

import numpy as np
from cctbx import xray
from frames import organic
from scipy.spatial.transform import Rotation

from edtbx import Experiment, Nuisance
from edtbx.execution.memory import bytes_text
from edtbx.intensities.sampling import Sampling
from edtbx.intensities.simulation import Crystal, Noise, Scan
from edtbx.solvers.block import Accuracy
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.refinement.model import RefinementModel
from edtbx_cctbx.refinement.settings import Refined
from edtbx_cctbx.simulation import SimulationSettings, simulate
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls

SAMPLING = Sampling(
    accuracy=Accuracy(s_max=0.02, s_strong=0.002, tolerance=1e-5),
    tilts=2,
    spread_reach=float(np.radians(0.15)),
    spread_spacing=float(np.radians(0.03)),
    thickness_max=700.0,
    thickness_step=700.0 / 30.0,
)
CRYSTAL = Crystal(shape="wedge", thickness=600.0, sigma=float(np.radians(0.05)))


def experiment_of(structure: xray.structure, frames: int, semi_angle: float, executor: Executor | None) -> Experiment:
    """A rotation of 0.24° from frame to frame to 0.8 Å, over as many turns as the frames take.

    Frames overlap where their semi-angle (degrees) says so.
    """
    settings = SimulationSettings(
        wavelength=0.02508,
        orientation=Rotation.from_euler("xyz", [20.0, 30.0, 40.0], degrees=True).as_matrix(),
        scan=Scan(
            first=float(np.radians(-60.0)),
            step=float(np.radians(0.24)),
            frames=frames,
            semi_angle=float(np.radians(semi_angle)),
            d_min=0.8,
            rsg_max=0.8,
        ),
        crystal=CRYSTAL,
        noise=Noise(counts=500.0, background=2.0, orientation=0.0, scale=0.0),
        solver="kinematical" if executor is None else "auto",
        s_max=0.01,
        executor=executor,
    )
    return simulate(structure, settings, np.random.default_rng(0)).experiment


def equations_of(structure: xray.structure, experiment: Experiment, executor: Executor | None) -> crystallographic_ls:
    """Least squares of all parameters, from the nuisance parameters that the experiment was made with."""
    start = Nuisance(
        shape=CRYSTAL.shape,
        thickness=CRYSTAL.thickness,
        sigma=CRYSTAL.sigma,
        centres=np.zeros(len(experiment.frames)),
        scales=np.ones(len(experiment.frames)),
    )
    options = {"sampling": SAMPLING, "executor": executor}
    target = edtbx_cctbx.DynamicalTarget(experiment, structure, **options)
    target.nuisance = start.at(range(len(target.observations.frame_ids)))
    model = RefinementModel.of(structure, riding=False)
    return crystallographic_ls(target, model.reparametrisation(Refined()))


def peak() -> str:
    """Most memory that this process has held so far."""
    return bytes_text(1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def report(said: str, began: float) -> None:
    print(
        f"{said}: {time.perf_counter() - began:.0f} s so far, at most {peak()} in memory", file=sys.stderr, flush=True
    )


def run(structure: xray.structure, frames: int, semi_angle: float, executor: Executor | None) -> None:
    """Simulate, build the equations, shift by their solution, and say what each takes."""
    began = time.perf_counter()
    structure.convert_to_anisotropic()
    experiment = experiment_of(structure, frames, semi_angle, executor)
    rows = len(experiment.reflections)
    report(f"{frames} frames, {rows} rows of a cell of {structure.unit_cell().volume():.0f} Å³ simulated", began)
    structure.shake_sites_in_place(rms_difference=0.01)
    ls = equations_of(structure, experiment, executor)
    forward = ls.observations.forward
    report(f"{forward.waves_per_frame:.0f} waves and {forward.beams_per_frame:.0f} beams a frame prepared", began)
    ls.build_up()
    report(f"equations of {ls.n_equations} rows, {ls.n_parameters} parameters", began)
    ls.solve()
    before = ls.wR2()
    ls.step_forward()
    ls.build_up()
    report(f"wR2 {before:.4f}, {ls.wR2():.4f} after a step", began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    jobs = parser.add_subparsers(dest="job", required=True)
    memory = jobs.add_parser("memory")
    memory.add_argument("--frames", type=int, default=500)
    memory.add_argument("--volume", type=float, default=2000.0, help="in Å³")
    cluster = jobs.add_parser("cluster")
    cluster.add_argument("address")
    cluster.add_argument("--frames", type=int, default=4000)
    cluster.add_argument("--volume", type=float, default=300.0, help="in Å³")
    asked = parser.parse_args()
    workers = workers_of(asked.address, sys.stderr) if asked.job == "cluster" else nullcontext()
    with workers as executor:
        run(organic(asked.volume), asked.frames, 0.5, executor)


if __name__ == "__main__":
    main()
