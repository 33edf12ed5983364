"""Bloch waves by abTEM from structure factors: its own beams, excitation errors, structure matrix, surface terms."""

from __future__ import annotations

import abtem
import numpy as np
from abtem.bloch.dynamical import BlochWaves, StructureFactorArray, calculate_M_matrix

from edtbx.arrays import FloatArray, IntArray
from edtbx.constants import energy_from_wavelength

_TO_ABTEM = np.diag([1.0, -1.0, -1.0])
"""Half a turn about x: our electrons travel along −z, abTEM's along +z."""


def bloch_intensities(
    structure_factors: StructureFactorArray,
    *,
    wavelength: float,
    orientation: FloatArray,
    thickness: FloatArray,
    s_max: float,
) -> tuple[IntArray, FloatArray]:
    """Indices (N, 3) of the beams and the flux (N, T) of each for unit incident flux.

    Parameters
    ----------
    structure_factors
        From :func:`abtem_crystal.structure_factors`.
    wavelength : float, Å
        In vacuum: abTEM leaves out the refraction of the mean inner potential.
    orientation : (3, 3)
        The rotation that takes the crystal's Cartesian frame to our lab frame: Rx(alpha) Ry(beta) U.
    thickness : (T,), Å
        Along the beam, to which the surface is normal.
    s_max : float, Å⁻¹
        Beams with a larger |S_g| are left out; so are those with |g| beyond half of where the structure factors end.
    """
    with abtem.config.set({"precision": "float64"}):
        waves = BlochWaves(
            structure_factors,
            energy=energy_from_wavelength(wavelength),
            sg_max=s_max,
            orientation_matrix=_TO_ABTEM @ orientation,
        )
        patterns = waves.calculate_diffraction_patterns(np.asarray(thickness, dtype=float).tolist(), lazy=False)
        # abTEM gives |ψ|², the density of the wave; the flux is |ψ|²/M²
        metric = calculate_M_matrix(waves.hkl, waves.cell, waves.energy)
    return np.asarray(waves.hkl), np.asarray(patterns.array / metric**2).T
