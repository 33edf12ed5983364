"""Simulated experiments of an xray.structure."""

from __future__ import annotations

from concurrent.futures import Executor

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


def simulate(
    structure: xray.structure,
    *,
    wavelength: float,
    orientation: FloatArray,
    scan: Scan,
    crystal: Crystal,
    noise: Noise,
    rng: np.random.Generator,
    solver: str = "eigen",
    s_max: float = 0.02,
    g_max: float | None = None,
    nproc: int | None = None,
    executor: Executor | None = None,
    progress: Progress[FrameCube] = no_progress,
) -> Simulation:
    """The experiment that a crystal of this structure would give.

    Parameters
    ----------
    structure
        The model; electron form factors are put in where others stand.
    wavelength, orientation
        λ in Å and the rotation matrix U (3, 3).
    s_max, g_max
        Beams beyond this |S_g| or |g| in Å⁻¹ are left out; ``g_max`` None: a little beyond the reflections listed.
    nproc, executor
        Threads, or what takes the frames in their place, as in :class:`DynamicalTarget`.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong kind or out of range, a frame has no reflection, or nobody knows the solver.
    TooLarge
        The memory does not hold what it takes.
    """
    forward, truth = forward_model(
        structure,
        wavelength=wavelength,
        orientation=orientation,
        scan=scan,
        crystal=crystal,
        noise=noise,
        rng=rng,
        solver=solver,
        s_max=s_max,
        g_max=g_max,
        nproc=nproc,
        executor=executor,
    )
    f = Expansion.of(structure, forward.vectors).structure_factors(structure)
    return simulation.measure(forward, f, truth, noise, rng, progress)


def forward_model(
    structure: xray.structure,
    *,
    wavelength: float,
    orientation: FloatArray,
    scan: Scan,
    crystal: Crystal,
    noise: Noise,
    rng: np.random.Generator,
    solver: str = "eigen",
    s_max: float = 0.02,
    g_max: float | None = None,
    nproc: int | None = None,
    executor: Executor | None = None,
) -> tuple[ForwardModel, Nuisance]:
    """What :func:`simulate` computes intensities with, and the true nuisance parameters; the arguments are the same.

    Raises
    ------
    ValueError
        As :func:`simulate`.
    """
    if not 0.0 < s_max < 1.0:
        raise ValueError(f"s_max must lie between 0 and 1 Å⁻¹, got {s_max:g}")
    if g_max is not None and g_max < 1.0 / scan.d_min:
        raise ValueError(f"g_max = {g_max:g} Å⁻¹ leaves reflections of d_min = {scan.d_min:g} Å without a beam")
    set_electron_form_factors(expect_structure(structure), log=null_out())
    backend = installed_solvers().create(solver)
    executor = frame_executor(executor, nproc)
    empty = simulation.frames_of(scan, structure.unit_cell().parameters(), wavelength, orientation)
    g_max = g_max or 1.0 / scan.d_min + G_MAX_MARGIN
    expect_room_for(empty, g_max, s_max)
    vectors = g_vectors(structure, g_max)
    experiment = simulation.with_rows(empty, scan, vectors.hkl)
    truth = simulation.true_nuisance(crystal, noise, scan.frames, rng)
    forward = simulation.forward_model(
        experiment, vectors, truth, f_000(structure), s_max=s_max, solver=backend, executor=executor
    )
    return forward, truth
