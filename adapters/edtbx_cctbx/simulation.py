"""Simulated experiments of an xray.structure."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cctbx import xray
from libtbx.utils import null_out

from edtbx.arrays import FloatArray
from edtbx.execution.executors import frame_executor
from edtbx.execution.memory import expect_room_for
from edtbx.execution.progress import Progress, no_progress
from edtbx.intensities import simulation
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx.intensities.sampling import G_MAX_MARGIN
from edtbx.intensities.simulation import Crystal, Noise, Scan, Simulation
from edtbx.solvers.registry import installed_solvers
from edtbx_cctbx.boundary import expect_structure
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import Expansion, f_000, g_vectors


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SimulationSettings:
    """Settings of a simulation: beam, scan, crystal, noise, and accuracy.

    Attributes
    ----------
    wavelength : float, Å
        Relativistic wavelength of the electrons.
    orientation : (3, 3)
        Rotation matrix U.
    scan : Scan
    crystal : Crystal
    noise : Noise
    solver : str
        By its registered name.
    s_max, g_max : float, Å⁻¹
        Beams beyond this |S_g| or |g| are left out; ``g_max`` None: a little beyond the reflections listed.
    nproc, executor
        Threads, or what takes the frames in their place, as in :class:`edtbx_cctbx.DynamicalTarget`.

    Raises
    ------
    ValueError
        A limit is out of range.
    """

    wavelength: float
    orientation: FloatArray
    scan: Scan
    crystal: Crystal
    noise: Noise
    solver: str = "auto"
    s_max: float = 0.02
    g_max: float | None = None
    nproc: int | None = None
    executor: Executor | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.s_max < 1.0:
            raise ValueError(f"s_max must lie between 0 and 1 Å⁻¹, got {self.s_max:g}")
        if self.g_max is not None and self.g_max < 1.0 / self.scan.d_min:
            raise ValueError(
                f"g_max = {self.g_max:g} Å⁻¹ leaves reflections of d_min = {self.scan.d_min:g} Å without a beam"
            )


def simulate(
    structure: xray.structure,
    settings: SimulationSettings,
    rng: np.random.Generator,
    progress: Progress[FrameCube] = no_progress,
) -> Simulation:
    """The experiment that a crystal of this structure would give; electron form factors are put in where others stand.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong kind or out of range, a frame has no reflection, or nobody knows the solver.
    TooLarge
        The memory does not hold what it takes.
    """
    forward, truth = forward_model(structure, settings, rng)
    f = Expansion.of(structure, forward.vectors).structure_factors(structure)
    return simulation.measure(forward, f, truth, settings.noise, rng, progress)


def forward_model(
    structure: xray.structure, settings: SimulationSettings, rng: np.random.Generator
) -> tuple[ForwardModel, Nuisance]:
    """What :func:`simulate` computes intensities with, and the true nuisance parameters; it raises the same."""
    set_electron_form_factors(expect_structure(structure), log=null_out())
    scan = settings.scan
    solver = installed_solvers().create(settings.solver)
    executor = frame_executor(settings.executor, settings.nproc)
    empty = simulation.frames_of(scan, structure.unit_cell().parameters(), settings.wavelength, settings.orientation)
    g_max = settings.g_max or 1.0 / scan.d_min + G_MAX_MARGIN
    expect_room_for(empty, g_max, settings.s_max)
    vectors = g_vectors(structure, g_max)
    experiment = simulation.with_rows(empty, scan, vectors.hkl)
    truth = simulation.true_nuisance(settings.crystal, settings.noise, scan.frames, rng)
    forward = simulation.forward_model(
        experiment, vectors, truth, f_000(structure), s_max=settings.s_max, solver=solver, executor=executor
    )
    return forward, truth
