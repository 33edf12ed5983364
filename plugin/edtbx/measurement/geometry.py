"""Frame of reference and diffraction geometry: the one place where conventions are stated.

Lab frame: electrons travel along −z, the incident wave vector is k = (0, 0, −K) with K = 1/λ; the goniometer axis is +x.
A reciprocal-lattice vector stands at ``g_lab = Rx(alpha) Ry(beta) U B h``, with right-handed active rotations and
|g| = 1/d (no 2π). The angle omega and the position of the rotation axis turn the image in its own plane only: no
excitation error depends on them. Within a frame an orientation is reached from the centre by small rotations about the
lab axes: ``x`` along the scan of a continuous rotation, ``y`` across it (the axis across beam and rotation axis).

Excitation error ``S_g = (K² − |k + g|²)/(2K) = g_z − |g|²/(2K)``, positive inside the Ewald sphere.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from edtbx.arrays import FloatArray, IntArray
from edtbx.cell import Cell, metric_matrix
from edtbx.measurement.experiment import Experiment, Frame, ScanGeometry

_SINGULAR = 0.05
"""Least ratio of the singular values of UB·B⁻¹; below it UB counts as singular."""


def orthogonalisation_matrix(cell: Cell) -> FloatArray:
    """Orthogonalisation matrix B (3, 3) in Å⁻¹, upper triangular with a* along x (Busing & Levy): g = B h.

    Raises
    ------
    ValueError
        The cell parameters do not span a volume.

    References
    ----------
    W. R. Busing & H. A. Levy, Acta Cryst. 22, 457 (1967), doi:10.1107/S0365110X67000970, equation 3.
    """
    return np.asarray(np.linalg.cholesky(np.linalg.inv(metric_matrix(cell))).T)


def ub_matrix(experiment: Experiment) -> FloatArray:
    """Matrix UB (3, 3) in Å⁻¹ of the experiment's orientation and the cell in use."""
    return experiment.orientation @ orthogonalisation_matrix(experiment.cell)


def polar_factors(ub: FloatArray, cell: Cell) -> tuple[FloatArray, FloatArray]:
    """Rotation U (3, 3) nearest to UB·B⁻¹, and the singular values (3,) of UB·B⁻¹, the largest first.

    UB·B⁻¹ = D U: a distortion D of the patterns, symmetric in the lab frame, leaves U as it was. Singular values are the
    factors by which D stretches reciprocal space: 1 where UB has exactly this cell.

    Raises
    ------
    ValueError
        UB is singular or left-handed.
    """
    b = orthogonalisation_matrix(cell)
    # numpy's, not scipy.linalg.polar: scipy's LAPACK is broken where cctbx came before numpy
    left, values, right = np.linalg.svd(ub @ np.linalg.inv(b))
    if values[2] < _SINGULAR * values[0] or not np.all(np.isfinite(values)):
        raise ValueError(f"the UB matrix is singular (determinant {np.linalg.det(ub):.3g} Å⁻³): index the data again")
    rotation = np.asarray(left @ right)
    if np.linalg.det(rotation) < 0.0:
        raise ValueError("the UB matrix is left-handed (its determinant is negative)")
    return rotation, values


def measured_ub(experiment: Experiment) -> FloatArray:
    """Measured matrix UB (3, 3) in Å⁻¹; that of orientation and cell where none was measured."""
    return ub_matrix(experiment) if experiment.ub is None else experiment.ub


def with_cell(experiment: Experiment, cell: Cell) -> Experiment:
    """The experiment with another cell (Å, degrees), and the orientation that the measured UB has for it.

    Raises
    ------
    ValueError
        The measured UB is singular or left-handed.
    """
    unchanged = experiment.ub is None or cell == experiment.cell
    rotation = experiment.orientation if unchanged else polar_factors(measured_ub(experiment), cell)[0]
    return replace(
        experiment, cell=cell, orientation=rotation, measured_cell=experiment.measured_cell or experiment.cell
    )


def frame_vectors(experiment: Experiment, frame: Frame, hkl: IntArray) -> FloatArray:
    """Lab vectors g (N, 3) in Å⁻¹ of the indices (N, 3), the goniometer at the centre of the frame."""
    return np.asarray(hkl @ (_goniometer(frame) @ ub_matrix(experiment)).T)


def place_in_frame(
    frame: Frame, other: Frame, x: FloatArray | float, y: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """Small rotations x and y (B,) in radians from the centre of a frame to orientations x and y (B,) of another one.

    Up to a turn about the beam, which no excitation error depends on.
    """
    turn = _goniometer(frame) @ _goniometer(other).T
    there = _beam(x, y) @ turn.T
    return np.arcsin(there[..., 1]), np.arctan2(-there[..., 0], there[..., 2])


def _beam(x: FloatArray | float, y: FloatArray | float) -> FloatArray:
    """Direction of lab z (..., 3) seen from a crystal that is turned by Rx(x) Ry(y)."""
    return np.stack(np.broadcast_arrays(-np.cos(x) * np.sin(y), np.sin(x), np.cos(x) * np.cos(y)), axis=-1)


def _goniometer(frame: Frame) -> FloatArray:
    """Rotation (3, 3) of the goniometer at the centre of a frame."""
    return np.asarray((Rotation.from_euler("x", frame.alpha) * Rotation.from_euler("y", frame.beta)).as_matrix())


def rotate(g: FloatArray, x: FloatArray | float, y: FloatArray | float) -> FloatArray:
    """Vectors g (N, 3) turned by Rx(x) Ry(y): (B, N, 3) for angles (B,) in radians, (N, 3) for scalars."""
    cx, sx, cy, sy = np.cos(x), np.sin(x), np.cos(y), np.sin(y)
    cx, sx, cy, sy = (np.expand_dims(v, -1) for v in np.broadcast_arrays(cx, sx, cy, sy))
    along = cy * g[..., 0] + sy * g[..., 2]
    depth = cy * g[..., 2] - sy * g[..., 0]
    return np.stack([along, cx * g[..., 1] - sx * depth, sx * g[..., 1] + cx * depth], axis=-1)


def excitation_error(g: FloatArray, wavevector: float) -> FloatArray:
    """Excitation errors S_g (...) in Å⁻¹ of lab vectors (..., 3), K in Å⁻¹: (2 K g_z − |g|²)/(2K)."""
    return g[..., 2] - np.sum(g * g, axis=-1) / (2.0 * wavevector)


def excitation_errors(g: FloatArray, x: FloatArray, y: FloatArray, wavevector: float) -> FloatArray:
    """Excitation errors S_g (B, N) in Å⁻¹ of vectors g (N, 3) turned by Rx(x) Ry(y), x and y (B,) in radians."""
    return np.asarray(_beam(x, y) @ g.T - np.sum(g * g, axis=1) / (2.0 * wavevector))


def excitation_error_slopes(g: FloatArray, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivatives ∂S_g/∂x and ∂S_g/∂y, (B, N) each, of :func:`excitation_errors` in Å⁻¹ per radian."""
    by_x = np.column_stack([np.sin(x) * np.sin(y), np.cos(x), -np.sin(x) * np.cos(y)])
    by_y = np.column_stack([-np.cos(x) * np.cos(y), np.zeros_like(x), -np.cos(x) * np.sin(y)])
    return by_x @ g.T, by_y @ g.T


def scan_lever(experiment: Experiment, g: FloatArray) -> FloatArray:
    """Largest |∂S_g/∂angle| (N,) along the scan in Å⁻¹ per radian: |g_y| in rotation, |g| in precession."""
    if experiment.geometry is ScanGeometry.ROTATION:
        return np.abs(g[..., 1])
    return np.asarray(np.linalg.norm(g, axis=-1))
