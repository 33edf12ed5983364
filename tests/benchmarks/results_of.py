"""What the programs give, to ten digits: to be compared before and after a change that should change nothing.

    python tests/benchmarks/results_of.py > before.txt
    ... the change ...
    python tests/benchmarks/results_of.py > after.txt; diff before.txt after.txt

Cases as arguments choose some (``example``, ``refine``, ``gradient``, ``urea``, ``paracetamol``, ``quartz``); those with
measured data need EDTBX_DATA. All take some ten minutes on two cores.
"""

import edtbx_cctbx  # noqa: F401  # isort: skip  (before numpy, scipy and numba)

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from iotbx.cli_parser import run_program

from edtbx_cctbx.programs import compare, refine
from edtbx_cctbx.programs import map as maps

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("EDTBX_DATA") or ROOT.parent / "shared" / "data")
EXAMPLE = [ROOT / "examples" / "example.cif", ROOT / "examples" / "example.cif_pets"]
START = [ROOT / "examples" / "start.cif", EXAMPLE[1]]
UREA = [DATA / "urea" / "urea_jana_model.cif", DATA / "urea" / "urea.cif_pets"]
PARACETAMOL = [DATA / "paracetamol" / "paracetamol.cif", DATA / "paracetamol" / "paracetamol.cif_pets"]
QUARTZ = [DATA / "quartz" / "quartz_start.cif", DATA / "quartz" / "quartz.cif_pets"]
SIX = ["frames.first=10", "frames.last=15"]

CASES = {
    "example": [
        (compare, [*EXAMPLE]),
        (maps, [*EXAMPLE, "map.omit=H*", "map.hydrogens=True", "frames.last=6"]),
    ],
    "refine": [(refine, [*START, "refinement.place_hydrogens=True", "refinement.cycles=3", "frames.last=6"])],
    "gradient": [(refine, [*START, "solver.name=two_beam", "refinement.method=gradient", "refinement.cycles=2"])],
    "urea": [
        (compare, [*UREA, *SIX]),
        (refine, [*UREA, *SIX, "refinement.cycles=2", "refinement.free_frames=3"]),
        (maps, [*UREA, *SIX, "map.omit=H*"]),
    ],
    "paracetamol": [(compare, [*PARACETAMOL, *SIX])],
    "quartz": [(compare, [*QUARTZ]), (refine, [*QUARTZ, *SIX, "refinement.cycles=3"])],
}


def numbers_of(result: object) -> Iterator[tuple[str, float]]:
    """Names and values of what a comparison, or maps, say."""
    if hasattr(result, "qualities"):
        for kind, quality in result.qualities.items():
            for name in ("rms", "maximum", "minimum", "highest", "deepest"):
                yield f"{kind} {name}", getattr(quality, name)
            for n, peak in enumerate(quality.peaks[:10]):
                yield f"{kind} peak {n}", peak.height_volts
        yield "R(obs)", result.statistics.r_obs
        yield from structure_of("map", result.structure)
        return
    for theory in ("kinematical", "dynamical"):
        fit = getattr(result, theory)
        for name in ("r_obs", "r_all", "wr_all", "mr_obs"):
            yield f"{theory} {name}", getattr(fit.statistics, name)
        yield f"{theory} I_calc", float(np.sum(fit.i_calc))
        for name in ("thickness", "sigma"):
            yield f"{theory} {name}", getattr(fit.nuisance, name)
        for name in ("centres", "scales"):
            yield f"{theory} {name}", float(np.sum(np.abs(getattr(fit.nuisance, name))))
        if fit.free is not None:
            yield f"{theory} R(free)", fit.free.statistics.r_obs
        if fit.least_squares is not None:
            yield f"{theory} wR2", fit.least_squares.wr2
            yield f"{theory} covariance", float(np.sum(fit.least_squares.covariance.as_numpy_array()))
        yield from structure_of(theory, fit.structure)


def structure_of(theory: str, structure: object) -> Iterator[tuple[str, float]]:
    """Sites and displacements."""
    for scatterer in structure.scatterers():
        for axis, x in zip("xyz", scatterer.site, strict=True):
            yield f"{theory} {scatterer.label} {axis}", x
        u = scatterer.u_star if scatterer.flags.use_u_aniso() else [scatterer.u_iso]
        yield f"{theory} {scatterer.label} U", float(np.sum(u))


def main(chosen: list[str]) -> None:
    """Run the cases chosen, or all."""
    for case in chosen or CASES:
        for n, (program, arguments) in enumerate(CASES[case]):
            with tempfile.TemporaryDirectory() as folder:
                model, data, *others = map(str, arguments)
                given = [f"input.model={model}", f"input.data={data}", *others, f"output.prefix={folder}/x", "nproc=2"]
                result = run_program(program.Program, args=given, logger=io.StringIO())
            for name, value in numbers_of(result):
                print(f"{case} {n} {name} {value:.10g}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
