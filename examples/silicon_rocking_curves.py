"""Rocking curves of silicon, measured beside computed: fringes tell the thickness.

    python silicon_rocking_curves.py [FOLDER]    (the folder that holds silicon/; else EDTBX_DATA says it)

Thickness and a Gaussian blur in S_g (mosaic spread) are fitted to nine curves at once, each with a scale of its own. UB
and goniometer are good to 0.1° only, so each curve is turned about the axis across g until its centre of mass sits at
S_g = 0, and may move by another 0.0002 Å⁻¹.
"""

import os
import re
import sys
from pathlib import Path

from edtbx_cctbx import read_model, structure_factors  # isort: skip  (before numpy, scipy and matplotlib)
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.spatial.transform import Rotation

from edtbx import (
    Accuracy,
    Block,
    excitation_error,
    installed_solvers,
    orthogonalisation_matrix,
    rotate,
    surface_term,
    u_per_f,
    wave_number,
)

WAVELENGTH, CELL = 0.02508, (5.42196, 5.42196, 5.42196, 90.0, 90.0, 90.0)
UB = np.array([[0.17985, 0.03374, 0.02309], [0.04014, -0.12581, -0.12875], [-0.00780, 0.13057, -0.13002]])
FRAME, STEP = np.radians(0.10263), np.radians(0.010263)  # between measured and between computed points of a curve
THICKNESS, BLURS, SHIFTS = np.arange(300.0, 3001.0, 25.0), np.arange(0.0, 8e-4, 1e-4), np.arange(-2e-4, 2.1e-4, 4e-5)
G_MAX, S_MAX = 2.2, 0.02


def strong_curves(path: Path) -> list[np.ndarray]:
    """Tables (n, 4) of hkl, S_g, I, frame: well-sampled curves within 15° of alpha = 0 (one thickness does for all)."""
    found = []
    for part in path.read_text().split("#")[1:]:
        lines = [re.findall(r"-?\d+\.?\d*", line) for line in part.splitlines()[1:]]  # columns may run together
        table = np.array([line for line in lines if len(line) == 11], dtype=float)
        if len(table) and abs(table[:, 9].mean() - 683) < 150 and np.sum(table[:, 6] > 0.2 * table[:, 6].max()) >= 5:
            found.append(table)
    found.sort(key=lambda table: np.median(table[:, 7]) / table[:, 6].max())
    return [table[:, [0, 1, 2, 4, 6, 9]] for table in found[:9]]


def computed(table: np.ndarray, angles: np.ndarray, middle: float, vectors, f: np.ndarray) -> np.ndarray:
    """|ψ_h|² (A, T) at angles (A,) from the middle of the scan."""
    left, _, right = np.linalg.svd(UB @ np.linalg.inv(orthogonalisation_matrix(CELL)))
    g = vectors.hkl @ (left @ right @ orthogonalisation_matrix(CELL)).T @ Rotation.from_euler("x", middle).as_matrix().T
    me = vectors.find(table[0, :3].astype(int))
    centre, axis = np.average(table[:, 3], weights=np.maximum(table[:, 4], 0.0) ** 2), np.cross(g[me], [0.0, 0.0, 1.0])
    g = Rotation.from_rotvec(-centre / (g[me] @ g[me]) * axis).apply(g)
    scale, squares = u_per_f(CELL, WAVELENGTH), np.sum(g * g, axis=1)
    k = wave_number(WAVELENGTH, scale * f[vectors.find(np.zeros(3, dtype=int))].real)
    s_g = excitation_error(rotate(g, angles, 0.0), k)
    near = np.flatnonzero((squares < G_MAX**2) & (np.abs(s_g).min(axis=0) < S_MAX))
    near = near[np.argsort(squares[near])]  # the incident beam first
    block = Block(
        u=scale * vectors.coupling(vectors.hkl[near], f),
        s_g=s_g[:, near],
        surface=surface_term(s_g, squares, k)[:, near],
        weights=np.eye(len(angles)),  # no sum: every orientation by itself
        wanted=np.flatnonzero(near == me),
        thickness=THICKNESS,
        wavenumber=k,
        accuracy=Accuracy(s_max=S_MAX),
    )
    return installed_solvers().create("eigen").intensities(block)[:, 0]


def candidates(table: np.ndarray, vectors, f: np.ndarray) -> np.ndarray:
    """Curves (blurs, T, shifts, n) at the measured points, each frame an integral, at their best scales."""
    alpha = np.radians(-69.795) + FRAME * (table[:, 5] - 3)
    angles = np.arange(alpha.min() - FRAME, alpha.max() + FRAME, STEP) - alpha.mean()
    sharp = uniform_filter1d(computed(table, angles, alpha.mean(), vectors, f), round(FRAME / STEP), axis=0)
    slope = np.polyfit(alpha, table[:, 3], 1)[0]
    at = alpha - alpha.mean() + SHIFTS[:, None] / slope
    blurred = [gaussian_filter1d(sharp, blur / abs(slope) / STEP, axis=0) if blur else sharp for blur in BLURS]
    curves = np.array([[np.interp(at, angles, curve) for curve in each.T] for each in blurred])
    return curves * (curves @ table[:, 4] / np.sum(curves**2, axis=-1))[..., None]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("EDTBX_DATA", "data")) / "silicon"
    if not folder.is_dir():
        sys.exit(f"no silicon data in {folder}: name the folder that holds silicon/, or set EDTBX_DATA to it")
    structure = read_model(folder / "felix_cRED_Si.cif")
    vectors, f = structure_factors(structure, G_MAX)
    tables = strong_curves(folder / "reflprofiles_strong.dat")
    trials = [candidates(table, vectors, f) for table in tables]
    misfits = [np.sum((c - t[:, 4]) ** 2, axis=-1).min(axis=-1) / np.sum(t[:, 4] ** 2) for c, t in zip(trials, tables)]  # noqa: B905
    misfit = np.sqrt(np.mean(misfits, axis=0))
    blur, best = np.unravel_index(misfit.argmin(), misfit.shape)
    figure, axes = plt.subplots(2, 5, figsize=(18, 7), layout="constrained")
    r, correlation = [], []
    for trial, table, axis in zip(trials, tables, axes.flat):  # noqa: B905
        s_g, measured = 1e3 * table[:, 3], table[:, 4]
        curve = min(trial[blur, best], key=lambda c: np.sum((c - measured) ** 2))
        r.append(np.sum(np.abs(curve - measured)) / np.sum(measured))
        correlation.append(np.corrcoef(curve, measured)[0, 1])
        axis.plot(s_g, measured / measured.max(), "k.:", s_g, curve / measured.max(), "r-")
        axis.set(title=f"{table[0, :3].astype(int)}  R = {r[-1]:.2f}", xlabel="S_g (10⁻³ Å⁻¹)", xlim=(-6, 6))
    axes[0, 0].legend(["measured", "computed"])
    axes[1, 4].plot(THICKNESS, misfit[blur])
    axes[1, 4].set(title="all curves", xlabel="thickness (Å)", ylabel="relative misfit")
    print(f"thickness = {THICKNESS[best]:.0f} Å, blur in S_g = {BLURS[blur]:.4f} Å⁻¹")
    print(f"R = {np.mean(r):.3f}, correlation = {np.mean(correlation):.3f}, the worst {min(correlation):.3f}")
    picture = Path(__file__).resolve().parent / "output" / "silicon_rocking_curves.png"
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=80)
    print(f"picture: {picture}")


if __name__ == "__main__":
    main()
