"""Simulated experiments: the intensities of a structure on the frames of a scan that was never made, with noise."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from cctbx import xray
from libtbx.utils import null_out

from edtbx.arrays import FloatArray, IntArray
from edtbx.execution.executors import frame_executor
from edtbx.execution.memory import expect_room_for
from edtbx.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.geometry import excitation_error, frame_vectors, orthogonalisation_matrix, scan_lever
from edtbx.intensities.forward import ForwardModel, Progress, Sampling, no_progress
from edtbx.intensities.nuisance import THICKEST, FrameCube, Nuisance
from edtbx.selection import Selection
from edtbx.solvers.block import Accuracy
from edtbx.solvers.registry import installed_solvers
from edtbx.statistics import r_factor
from edtbx_cctbx.boundary import expect_structure
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import Expansion, g_vectors
from edtbx_cctbx.targets.target import G_MAX_MARGIN

_SPREAD_REACH = 3.5
"""How many σ of the orientation spread are computed: 5e-4 of a Gaussian lies beyond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Where the goniometer stops, and what is listed there; angles in radians.

    Frame n of 1 … ``frames`` has its centre at ``first + (n − 1) step`` and a semi-angle of ``semi_angle``.
    Listed are the reflections with d ≥ ``d_min`` in Å and |S_g| ≤ ``rsg_max`` · lever · semi_angle.
    """

    geometry: ScanGeometry = ScanGeometry.ROTATION
    first: float
    step: float
    frames: int
    semi_angle: float
    d_min: float
    rsg_max: float = 1.0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"a scan needs at least one frame, got {self.frames}")
        if not self.d_min >= 0.1:
            raise ValueError(f"d_min must be at least 0.1 Å, got {self.d_min:g}")
        if not self.rsg_max > 0.0:
            raise ValueError(f"rsg_max must be > 0, got {self.rsg_max:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crystal:
    """Law and greatest thickness in Å of the crystal, σ of its orientation spread in radians."""

    shape: str
    thickness: float
    sigma: float

    def __post_init__(self) -> None:
        if not 0.0 < self.thickness <= THICKEST:
            raise ValueError(
                f"the thickness must lie between 0 and {THICKEST:g} Å, got {self.thickness:g} (is it in nm?)"
            )
        if not 0.0 <= self.sigma < 0.1:
            raise ValueError(f"the spread must lie between 0 and 5 degrees, got {np.degrees(self.sigma):g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What the measurement adds.

    ``counts`` are expected of a reflection of mean strength, ``background`` is the s.u. in counts that every row has
    beside its Poisson noise; ``orientation`` (radians, across the axis) and ``scale`` (of the logarithm) are standard
    deviations from frame to frame.
    """

    counts: float
    background: float = 0.0
    orientation: float = 0.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.counts < 1e12:
            raise ValueError(f"the counts must lie between 0 and 1e12, got {self.counts:g}")
        for name in ("background", "orientation", "scale"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"noise: {name} must be >= 0, got {getattr(self, name):g}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Simulation:
    """The noisy experiment, and what it was made from: the true intensities (M,) and nuisance parameters."""

    experiment: Experiment
    expected: FloatArray
    truth: Nuisance

    @property
    def r_noise(self) -> float:
        """R(obs) of the true intensities: what a perfect model reaches."""
        rows = self.experiment.reflections
        strong = rows.intensity > 3.0 * rows.sigma
        return r_factor(np.sqrt(rows.intensity[strong]), np.sqrt(self.expected[strong]))


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
    experiment = forward.experiment
    f = Expansion.of(structure, forward.vectors).structure_factors(structure)
    intensities = np.concatenate(truth.intensities(forward.grid, forward.cubes(f, progress)))
    to_counts = noise.counts / float(intensities.mean())
    expected = to_counts * intensities
    return Simulation(
        experiment=replace(experiment, reflections=_measured(experiment.reflections, expected, noise, rng)),
        expected=expected,
        truth=replace(truth, scales=to_counts * truth.scales),
    )


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
    empty = _empty_experiment(structure, wavelength, orientation, scan)
    g_max = g_max or 1.0 / scan.d_min + G_MAX_MARGIN
    expect_room_for(empty, g_max, s_max)
    vectors = g_vectors(structure, g_max)
    experiment = replace(empty, reflections=_listed(empty, scan, vectors.hkl))
    truth = Nuisance(
        shape=crystal.shape,
        thickness=crystal.thickness,
        sigma=crystal.sigma,
        centres=noise.orientation * rng.standard_normal(scan.frames),
        scales=np.exp(noise.scale * rng.standard_normal(scan.frames)),
    )
    f = Expansion.of(structure, vectors).structure_factors(structure)
    forward = ForwardModel(
        experiment,
        _everything(experiment),
        vectors,
        _sampling(truth, s_max),
        backend,
        executor,
        f_000=float(f[vectors.find(np.zeros(3, dtype=np.int64))].real),
    )
    return forward, truth


def _empty_experiment(structure: xray.structure, wavelength: float, orientation: FloatArray, scan: Scan) -> Experiment:
    """Frames without reflections."""
    return Experiment(
        wavelength=wavelength,
        cell=tuple(structure.unit_cell().parameters()),
        orientation=orientation,
        geometry=scan.geometry,
        frames=tuple(
            Frame(id=n + 1, alpha=scan.first + n * scan.step, beta=0.0, semi_angle=scan.semi_angle)
            for n in range(scan.frames)
        ),
        reflections=_rows(np.zeros((0, 3), dtype=np.int64), np.zeros(0, dtype=np.int64)),
    )


def _rows(hkl: IntArray, frame_id: IntArray) -> Reflections:
    """Rows that nobody has measured yet."""
    return Reflections(hkl=hkl, intensity=np.zeros(len(hkl)), sigma=np.ones(len(hkl)), frame_id=frame_id)


def _listed(experiment: Experiment, scan: Scan, lattice: IntArray) -> Reflections:
    """The rows of every frame: all of the lattice, extinguished by the space group or not, that the scan sweeps."""
    length = np.linalg.norm(lattice @ orthogonalisation_matrix(experiment.cell).T, axis=1)
    candidates = lattice[(length <= 1.0 / scan.d_min) & (length > 0.0)]
    indices, ids = [], []
    for frame in experiment.frames:
        g = frame_vectors(experiment, frame, candidates)
        s_g = excitation_error(g, 1.0 / experiment.wavelength)
        swept = np.abs(s_g) <= scan.rsg_max * frame.semi_angle * scan_lever(experiment, g)
        if not swept.any():
            raise ValueError(f"frame {frame.id} sweeps no reflection: take a larger semi_angle or a smaller d_min")
        indices.append(candidates[swept])
        ids.append(np.full(int(swept.sum()), frame.id))
    return _rows(np.concatenate(indices), np.concatenate(ids))


def _everything(experiment: Experiment) -> Selection:
    """A selection that leaves nothing out; the forward model reads no more of it."""
    m = len(experiment.reflections)
    return Selection(s_g=np.zeros(m), rsg=np.zeros(m), used=np.ones(m, dtype=bool), left_out={})


def _sampling(truth: Nuisance, s_max: float) -> Sampling:
    """Finer than any fit: tilts for the thickest part, y nodes σ/2 and at most 0.06° apart."""
    spacing = float(np.clip(truth.sigma / 2.0, np.radians(0.01), np.radians(0.06)))
    return Sampling(
        accuracy=Accuracy(s_max=s_max),
        tilt_thickness=truth.thickness,
        spread_reach=float(np.abs(truth.centres).max()) + _SPREAD_REACH * truth.sigma + spacing,
        spread_spacing=spacing,
        thickness_max=1.01 * truth.thickness,
        thickness_step=1.01 * truth.thickness / 100.0,
    )


def _measured(rows: Reflections, expected: FloatArray, noise: Noise, rng: np.random.Generator) -> Reflections:
    """Poisson noise of the counts and normal noise of the background; negative intensities stay.

    The s.u. is that of the expected counts: one estimated from the counts themselves would favour weak accidents. Half a
    count is the least, because a row without any error would outweigh all others.
    """
    counts = rng.poisson(expected) + noise.background * rng.standard_normal(len(rows))
    sigma = np.sqrt(np.maximum(expected + noise.background**2, 0.25))
    return replace(rows, intensity=counts, sigma=sigma)
