"""Frames to time solvers on: organic crystals of any size, and one frame of measured crystals."""

import edtbx_cctbx  # isort: skip  (before numpy, scipy and numba)

import io
import os
import random
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from cctbx import sgtbx, xray
from cctbx.array_family import flex
from cctbx.development import random_structure
from scipy.spatial.transform import Rotation

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.intensities.frame_waves import FrameWaves
from edtbx.intensities.quadrature import Orientations
from edtbx.intensities.sampling import Sampling
from edtbx.intensities.simulation import Crystal, Noise, Scan
from edtbx.levels.sampling_levels import USUAL
from edtbx.measurement.selection import SelectionRules
from edtbx.solvers.block import Accuracy, Block
from edtbx_cctbx.refinement.settings import Settings
from edtbx_cctbx.simulation import SimulationSettings, simulate
from edtbx_cctbx.targets.target import Target

DATA = Path(os.environ.get("EDTBX_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
MEASURED = {
    "urea": ("urea/urea_jana_model.cif", "urea/urea.cif_pets", 1800.0),
    "quartz": ("quartz/quartz_start.cif", "quartz/quartz.cif_pets", 900.0),
    "paracetamol": ("paracetamol/paracetamol.cif", "paracetamol/paracetamol.cif_pets", 900.0),
    "CsPbBr3": ("cspbbr3/cspbbr3.cif", "cspbbr3/cspbbr3.cif_pets", 450.0),
}
"""Model, data and greatest thickness in Å."""

_SPREAD, _NODES = float(np.radians(0.3)), 17
_REACH = 0.16
"""Largest |S_g| in Å⁻¹ of a beam that the reference takes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BenchmarkFrame:
    """A frame with everything that a solver is given; the crystal is a wedge of T thicknesses."""

    name: str
    waves: FrameWaves
    f: ComplexArray
    thickness: FloatArray

    def block(self, accuracy: Accuracy, every: int = 1) -> Block:
        """All orientations in one sum, or every so manieth of them."""
        o = self.waves.orientations
        x, y, weights = o.x[::every], o.y[::every], o.weights.sum(axis=0)[::every]
        orientations = Orientations(x=x, y=y, weights=weights[None] / weights.sum())
        return replace(self.waves, orientations=orientations, accuracy=accuracy).block(self.f, self.thickness)

    @cached_property
    def full(self) -> Block:
        """With all beams that the reference takes: those for which ``s_g`` is to be looked at."""
        return self.block(Accuracy(s_max=_REACH))


def organic(volume: float) -> xray.structure:
    """Light atoms at random places, 18 Å³ each, in a triclinic cell."""
    random.seed(0)
    flex.set_random_seed(0)
    return random_structure.xray_structure(
        space_group_info=sgtbx.space_group_info("P1"),
        elements=[("C", "C", "O", "C", "N")[n % 5] for n in range(round(volume / 18.0))],
        volume_per_atom=18.0,
        min_distance=1.2,
        u_iso=0.03,
        general_positions_only=True,
    )


@cache
def synthetic(volume: float = 400.0, thickness: float = 800.0, tilts: int = 60) -> BenchmarkFrame:
    """One frame of a rotation of ±0.75° to 0.75 Å at 200 kV, spread over ±0.3° across the axis."""
    structure = organic(volume)
    scan = Scan(first=0.3, step=0.02, frames=1, semi_angle=float(np.radians(0.75)), d_min=0.75, rsg_max=0.7)
    settings = SimulationSettings(
        wavelength=0.02508,
        orientation=Rotation.from_euler("xyz", [20.0, 30.0, 40.0], degrees=True).as_matrix(),
        scan=scan,
        crystal=Crystal(shape="wedge", thickness=thickness, sigma=0.001),
        noise=Noise(counts=1.0, background=0.0, orientation=0.0, scale=0.0),
        solver="kinematical",
    )
    simulated = simulate(structure, settings, np.random.default_rng(0))
    return _frame(f"organic, {volume:g} Å³, {thickness:g} Å", simulated.experiment, structure, thickness, tilts)


@cache
def measured(name: str, tilts: int = 60) -> BenchmarkFrame:
    """The middle frame of a measured crystal."""
    model, data, thickness = MEASURED[name]
    structure, experiment = _read(model, data)
    middle = experiment.frames[len(experiment.frames) // 2].id
    return _frame(name, experiment.select_frames([middle]), structure, thickness, tilts)


def experiment(name: str, frames: int, nproc: int) -> tuple[Target, xray.structure]:
    """A target of the first frames of a measured crystal, its nuisance parameters fitted, and the structure."""
    model, data, _ = MEASURED[name]
    structure, experiment = _read(model, data)
    few = experiment.select_frames([frame.id for frame in experiment.frames[:frames]])
    settings = Settings(nproc=nproc)
    scattering = settings.scattering_model("propagator", few, structure)
    start = scattering.fit_coarse(structure)
    return Target.of(*scattering.at_level(USUAL, start)), structure


def _read(model: str, data: str):
    structure = edtbx_cctbx.read_model(str(DATA / model), log=io.StringIO())
    return structure, edtbx_cctbx.read_experiment(str(DATA / data))


def _frame(name, experiment, structure, thickness, tilts) -> BenchmarkFrame:
    sampling = Sampling(
        accuracy=Accuracy(s_max=_REACH),
        tilts=tilts,
        spread_reach=_SPREAD,
        spread_spacing=2.0 * _SPREAD / (_NODES - 1),
        thickness_max=thickness,
        thickness_step=thickness / 40.0,
    )
    target = edtbx_cctbx.DynamicalTarget(
        experiment, structure, rules=SelectionRules(min_reflections=1), sampling=sampling, nproc=1
    )
    return BenchmarkFrame(
        name=name,
        waves=target.forward.waves[0],
        f=target.structure_factors(structure),
        thickness=target.forward.grid.thickness,
    )
