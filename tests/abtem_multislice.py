"""Multislice by abTEM, from the potential that our structure factors sum up to."""

from __future__ import annotations

import abtem
import numpy as np
from abtem.bloch.dynamical import StructureFactorArray
from abtem.multislice import FourierMultislice
from abtem.potentials.iam import CrystalPotential
from scipy.fft import next_fast_len

from edtbx.arrays import FloatArray
from edtbx.constants import energy_from_wavelength

_ANTIALIAS = {"antialias.cutoff": 2.0 / 3.0, "antialias.taper": 0.01}
"""Parts of the grid's band that abTEM keeps, and over which it fades the rest out."""


def multislice_intensities(
    structure_factors: StructureFactorArray,
    *,
    wavelength: float,
    repeats: int,
    tilt: tuple[float, float] = (0.0, 0.0),
    slice_thickness: float = 0.2,
) -> FloatArray:
    """Intensities [h, k] of the rods along c behind a slab of whole cells, for unit incident intensity.

    −h and −k count from the ends. All beams hkl of one rod hk leave the slab as one wave, in which their amplitudes add
    up. The propagation is paraxial, without surface terms: for a beam along c that is what Bloch waves solve for l = 0.

    Parameters
    ----------
    structure_factors
        In a cell with axes along x, y, z: see :func:`abtem_crystal.in_supercell`.
    wavelength : float, Å
        In vacuum.
    repeats : int
        Thickness of the slab in multiples of c.
    tilt : radians
        Angles by which the beam leans from c towards a and towards b.
    slice_thickness : float, Å
        The error of an intensity falls with its square.
    """
    lengths = np.diag(np.asarray(structure_factors.cell))
    kept = _ANTIALIAS["antialias.cutoff"] - 2.0 * _ANTIALIAS["antialias.taper"]
    gpts = tuple(next_fast_len(int(np.ceil(2.0 * structure_factors.g_max / kept * x))) for x in lengths[:2])
    with abtem.config.set({"precision": "float64", **_ANTIALIAS}):
        cell = structure_factors.get_projected_potential(slice_thickness=slice_thickness, gpts=gpts)
        slab = CrystalPotential(cell, (1, 1, repeats))
        # abTEM counts tilts in mrad
        incident = abtem.PlaneWave(energy=energy_from_wavelength(wavelength), tilt=(1e3 * tilt[0], 1e3 * tilt[1]))
        exit_wave = np.asarray(incident.multislice(slab, lazy=False, algorithm=FourierMultislice(order=1)).array)
    return np.asarray(np.abs(np.fft.fft2(exit_wave) / exit_wave.size) ** 2)
