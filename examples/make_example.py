"""Make the example anew from example.cif: the data example.cif_pets (minutes) and the disturbed model start.cif.

usage: python make_example.py [FOLDER]; without a folder, the files beside this script are replaced.
"""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np

import edtbx_cctbx  # before numpy, scipy and numba

HERE = Path(__file__).resolve().parent
SCAN = ["scan.first=-44", "scan.step=8", "scan.frames=12", "scan.semi_angle=1", "scan.orientation=25 40 10"]
CRYSTAL = ["thickness.value=900", "thickness.shape=wedge", "spread.sigma=0.06", "beam.energy=200"]
NOISE = ["noise.counts=500", "noise.background=10", "noise.orientation=0.03", "noise.scale=0.1", "seed=1"]
ACCURACY = ["selection.d_min=0.7", "beams.s_max=0.03", "solver.name=eigen"]


def disturbed_model() -> str:
    """example.cif without its H atoms, the others displaced by 0.05 Å in directions at random, all U_iso 0.02 Å²."""
    structure = edtbx_cctbx.read_model(HERE / "example.cif")
    structure = structure.select(~structure.hd_selection())
    rng = np.random.default_rng(2)
    for scatterer in structure.scatterers():
        direction = rng.standard_normal(3)
        shift = structure.unit_cell().fractionalize((0.05 * direction / np.linalg.norm(direction)).tolist())
        scatterer.site = tuple(round(x + d, 5) for x, d in zip(scatterer.site, shift, strict=True))
        scatterer.u_iso = 0.02
    text = io.StringIO()
    structure.as_cif_simple(out=text, data_name="start", format="coreCIF")
    return text.getvalue()


def main() -> None:
    """Write both files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    (folder / "start.cif").write_text(disturbed_model(), encoding="ascii")
    output = [f"output.prefix={folder / 'example'}", "output.overwrite=True"]
    program = ["edtbx.simulate", HERE / "example.cif", *SCAN, *CRYSTAL, *NOISE, *ACCURACY, *output]
    subprocess.run(program, check=True)


if __name__ == "__main__":
    main()
