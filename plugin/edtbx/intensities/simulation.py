"""Simulated experiments: frames of a scan, the reflections listed there, and intensities with noise."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.cell import Cell
from edtbx.execution.progress import Progress, no_progress
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.nuisance import THICKEST, FrameCube, Nuisance
from edtbx.intensities.potential import GVectors
from edtbx.intensities.sampling import Sampling
from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.measurement.geometry import excitation_error, frame_vectors, orthogonalisation_matrix, scan_lever
from edtbx.measurement.observations import Observations
from edtbx.measurement.statistics import r_factor
from edtbx.solvers.block import Accuracy, Solver

_SPREAD_REACH = 3.5
"""Reach of the orientation spread in σ: 5e-4 of a Gaussian lies beyond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Positions of the goniometer, and limits on the reflections listed there; angles in radians.

    Frame n of 1 … ``frames`` has its centre at ``first + (n − 1) step`` and a semi-angle of ``semi_angle``.
    Listed are the reflections with d ≥ ``d_min`` in Å and |S_g| ≤ ``rsg_max`` · lever · semi_angle.

    Raises
    ------
    ValueError
        There is no frame, ``d_min`` is below 0.1 Å, or ``rsg_max`` is not > 0.
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
    """Thickness law and greatest thickness in Å of the crystal, σ of its orientation spread in radians.

    Raises
    ------
    ValueError
        Thickness or spread is out of range.
    """

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
    """Noise of the measurement.

    Attributes
    ----------
    counts : float
        Expected counts of a reflection of mean intensity.
    background : float, counts
        S.u. that every row has beside its Poisson noise.
    orientation : float, radians
        Standard deviation of the orientation across the axis, from frame to frame.
    scale : float
        Standard deviation of the logarithm of the scale, from frame to frame.

    Raises
    ------
    ValueError
        A number is out of range.
    """

    counts: float
    background: float
    orientation: float
    scale: float

    def __post_init__(self) -> None:
        if not 0.0 < self.counts < 1e12:
            raise ValueError(f"the counts must lie between 0 and 1e12, got {self.counts:g}")
        for name in ("background", "orientation", "scale"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"noise: {name} must be >= 0, got {getattr(self, name):g}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Simulation:
    """Simulated experiment, with the noise-free intensities (M,) in counts and the true nuisance parameters."""

    experiment: Experiment
    expected: FloatArray
    truth: Nuisance

    @property
    def r_noise(self) -> float:
        """R(obs), as a fraction, of the noise-free intensities: that of a perfect model."""
        rows = self.experiment.reflections
        strong = rows.observed
        return r_factor(np.sqrt(rows.intensity[strong]), np.sqrt(self.expected[strong]))


def frames_of(scan: Scan, cell: Cell, wavelength: float, orientation: FloatArray) -> Experiment:
    """Experiment with the frames of a scan and no reflections, for λ in Å and a rotation matrix U (3, 3)."""
    return Experiment(
        wavelength=wavelength,
        cell=cell,
        orientation=orientation,
        geometry=scan.geometry,
        frames=tuple(
            Frame(id=n + 1, alpha=scan.first + n * scan.step, beta=0.0, semi_angle=scan.semi_angle)
            for n in range(scan.frames)
        ),
        reflections=_rows(np.zeros((0, 3), dtype=np.int64), np.zeros(0, dtype=np.int64)),
    )


def _rows(hkl: IntArray, frame_id: IntArray) -> Reflections:
    """Rows without measured intensities: I = 0 and σ = 1."""
    return Reflections(hkl=hkl, intensity=np.zeros(len(hkl)), sigma=np.ones(len(hkl)), frame_id=frame_id)


def with_rows(experiment: Experiment, scan: Scan, lattice: IntArray) -> Experiment:
    """Experiment with the rows that the scan sweeps on every frame, their intensities still zero.

    They are taken from the indices (G, 3) of a lattice, whether or not the space group extinguishes them.

    Raises
    ------
    ValueError
        A frame sweeps no reflection.
    """
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
    return replace(experiment, reflections=_rows(np.concatenate(indices), np.concatenate(ids)))


def true_nuisance(crystal: Crystal, noise: Noise, frames: int, rng: np.random.Generator) -> Nuisance:
    """Nuisance parameters of the crystal, with random centres and scales of its frames."""
    return Nuisance(
        shape=crystal.shape,
        thickness=crystal.thickness,
        sigma=crystal.sigma,
        centres=noise.orientation * rng.standard_normal(frames),
        scales=np.exp(noise.scale * rng.standard_normal(frames)),
    )


def forward_model(
    experiment: Experiment,
    vectors: GVectors,
    truth: Nuisance,
    f_000: float,
    *,
    s_max: float,
    solver: Solver,
    executor: Executor | None = None,
) -> ForwardModel:
    """Forward model of all rows, sampled finer than any fit; F(000) in Å, beams out to |S_g| ≤ s_max in Å⁻¹."""
    everything = np.ones(len(experiment.reflections), dtype=bool)
    return ForwardModel(
        experiment,
        Observations.of(experiment, everything),
        vectors,
        _sampling(truth, s_max),
        solver,
        executor,
        f_000=f_000,
    )


def measure(
    forward: ForwardModel,
    f: ComplexArray,
    truth: Nuisance,
    noise: Noise,
    rng: np.random.Generator,
    progress: Progress[FrameCube] = no_progress,
) -> Simulation:
    """Simulated experiment with noise, for structure factors f (G,) in Å."""
    intensities = np.concatenate(truth.intensities(forward.grid, forward.cubes(f, progress)))
    to_counts = noise.counts / float(intensities.mean())
    expected = to_counts * intensities
    experiment = forward.experiment
    return Simulation(
        experiment=replace(experiment, reflections=_with_noise(experiment.reflections, expected, noise, rng)),
        expected=expected,
        truth=replace(truth, scales=to_counts * truth.scales),
    )


def _sampling(truth: Nuisance, s_max: float) -> Sampling:
    """Sampling finer than that of any fit: tilts for the thickest part, y nodes σ/2 and at most 0.06° apart."""
    spacing = float(np.clip(truth.sigma / 2.0, np.radians(0.01), np.radians(0.06)))
    return Sampling(
        accuracy=Accuracy(s_max=s_max),
        tilt_thickness=truth.thickness,
        spread_reach=float(np.abs(truth.centres).max()) + _SPREAD_REACH * truth.sigma + spacing,
        spread_spacing=spacing,
        thickness_max=1.01 * truth.thickness,
        thickness_step=1.01 * truth.thickness / 100.0,
    )


def _with_noise(rows: Reflections, expected: FloatArray, noise: Noise, rng: np.random.Generator) -> Reflections:
    """Rows with Poisson noise of the counts and normal noise of the background; negative intensities stay.

    The s.u. is that of the expected counts: one estimated from the counts themselves would favour weak accidents. Half a
    count is the least, because a row without any error would outweigh all others.
    """
    counts = rng.poisson(expected) + noise.background * rng.standard_normal(len(rows))
    sigma = np.sqrt(np.maximum(expected + noise.background**2, 0.25))
    return replace(rows, intensity=counts, sigma=sigma)
