"""Whole jobs on measured data: how long the programs take, and what they reach. One command makes the table of README.

python tests/benchmarks/refinement.py [JOB ...] [--out jobs.json]

Jobs run one after the other, each in a folder of its own, with the defaults of the programs; without names, all of them.
The data are those of the tests that need measurements (the folder that EDTBX_DATA names).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SWAP = """
import edtbx_cctbx
from cctbx import xray
experiment = edtbx_cctbx.read_experiment({data!r}).select_frames([20, 21, 22])
structure = edtbx_cctbx.read_model({model!r})
structure.shake_sites_in_place(rms_difference=0.03)
target = edtbx_cctbx.DynamicalTarget(experiment, structure)
xray.set_scatterer_grad_flags(structure.scatterers(), site=True)
refined = edtbx_cctbx.minimise_with_lbfgs(target, structure)
print(refined.passes, "passes, target", refined.first_target_value, "->", refined.final_target_value)
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command, and what others say that theirs takes; ``program`` is one of edtbx's, or "script" for the swap."""

    program: str
    model: str
    data: str
    options: tuple[str, ...] = ()
    others: str = ""


JOBS = {
    "quartz, refined": Job(program="refine", model="quartz/quartz_start.cif", data="quartz/quartz.cif_pets"),
    "urea, hydrogen placed, refined": Job(
        program="refine",
        model="urea/urea_start.cif",
        data="urea/urea.cif_pets",
        options=("refinement.place_hydrogens=True",),
        others="a small organic, Jana: 3 h 50 min",
    ),
    "albite, refined": Job(program="refine", model="albite/albite_jana.cif", data="albite/albite.cif_pets"),
    "CsPbBr₃, refined": Job(
        program="refine",
        model="cspbbr3/cspbbr3.cif",
        data="cspbbr3/cspbbr3.cif_pets",
        others="diffBloch: 15.3 h on a CPU, 21 min on a GPU",
    ),
    "paracetamol, refined": Job(
        program="refine", model="paracetamol/paracetamol.cif", data="paracetamol/paracetamol.cif_pets"
    ),
    "abiraterone, compared": Job(
        program="compare", model="abiraterone/abiraterone.cif", data="abiraterone/abiraterone.cif_pets"
    ),
    "urea, map": Job(program="map", model="urea/urea_jana.cif", data="urea/urea.cif_pets", options=("map.omit=H*",)),
    "paracetamol, map": Job(
        program="map",
        model="paracetamol/paracetamol.cif",
        data="paracetamol/paracetamol.cif_pets",
        options=("map.omit=H*",),
    ),
    "paracetamol, lbfgs on 3 frames": Job(
        program="script", model="paracetamol/paracetamol.cif", data="paracetamol/paracetamol.cif_pets"
    ),
}


def command(job: Job, data: Path) -> list[str]:
    """What a user types."""
    model, measured = str(data / job.model), str(data / job.data)
    if job.program == "script":
        return [sys.executable, "-c", SWAP.format(model=model, data=measured)]
    name = {"refine": "refine", "compare": "compare", "map": "make_maps"}[job.program]
    start = f"import edtbx_launch, sys; sys.argv[0] = 'edtbx.{job.program}'; edtbx_launch.{name}()"
    return [sys.executable, "-c", start, model, measured, *job.options, "output.prefix=job"]


def run(name: str, data: Path) -> dict[str, object]:
    """Seconds, and what the job's summary says of fit, level, passes and seconds by kind of work."""
    job = JOBS[name]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(command(job, data), cwd=folder, capture_output=True, text=True, check=False)
        found: dict[str, object] = {"job": name, "seconds": time.perf_counter() - began, "others": job.others}
        if done.returncode:
            return {**found, "failed": (done.stderr.strip().splitlines() or ["?"])[-1]}
        summary = Path(folder) / "job.json"
        if summary.exists():
            read = json.loads(summary.read_text(encoding="utf-8"))
            found |= {
                "r_obs": read["dynamical"]["r_obs"],
                "shift": (read["least_squares"] or {}).get("shift_over_su"),
                "kinds": {kind: round(value, 1) for kind, value in read["seconds"].items()},
                "passes": read["passes"],
            }
    return found


def row(found: dict[str, object]) -> str:
    """A line of the table."""
    if "failed" in found:
        return f"| {found['job']} | {found['seconds']:.0f} s | failed: {found['failed']} | | |"
    r_obs = f"{found['r_obs']:.4f}" if "r_obs" in found else ""
    passes = ", ".join(f"{number} {kind}" for kind, number in found.get("passes", {}).items())
    return f"| {found['job']} | {found['seconds']:.0f} s | {r_obs} | {passes} | {found['others']} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"from: {', '.join(JOBS)}")
    parser.add_argument("--out", type=Path, help="JSON file with all numbers")
    options = parser.parse_args()
    data = Path(os.environ.get("EDTBX_DATA") or REPOSITORY.parent / "shared" / "data")
    results = []
    print("| job | time | R(obs) | passes over frames | others |\n|---|---|---|---|---|")
    for name in options.jobs or JOBS:
        results.append(run(name, data))
        print(row(results[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps({"cores": os.cpu_count(), "jobs": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
