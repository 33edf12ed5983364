"""Physical constants (CODATA 2018, exact or rounded to the last certain digit) in Å, eV and radians.

References
----------
E. Tiesinga et al., Rev. Mod. Phys. 93, 025010 (2021), doi:10.1103/RevModPhys.93.025010.
"""

from __future__ import annotations

import math

ELECTRON_REST_ENERGY_EV = 510998.95
"""m_e c² in eV."""

PLANCK_TIMES_C_EV_ANGSTROM = 12398.419843320026
"""h c in eV Å."""

VOLTS_PER_U = 47.878
"""h²/(2π m e) in V Å² (rest mass): potential in volts of a sum of structure factors F in Å over the cell volume in Å³."""

VOLTS_PER_E_PER_A = 14.399645
"""e/(4π ε0) in V Å: the factor from potentials in e/Å to volts."""


def energy_from_wavelength(wavelength: float) -> float:
    """Kinetic energy in eV of an electron of the given wavelength in Å.

    From (pc)² = E² + 2 E m c², with p = h/λ.
    """
    pc = PLANCK_TIMES_C_EV_ANGSTROM / wavelength
    return math.hypot(pc, ELECTRON_REST_ENERGY_EV) - ELECTRON_REST_ENERGY_EV


def wavelength_from_energy(energy_ev: float) -> float:
    """Wavelength in Å of an electron of the given kinetic energy in eV (relativistic)."""
    return PLANCK_TIMES_C_EV_ANGSTROM / math.sqrt(energy_ev * (energy_ev + 2.0 * ELECTRON_REST_ENERGY_EV))


def lorentz_factor(wavelength: float) -> float:
    """Relativistic factor γ = 1 + E/(m c²) of an electron of the given wavelength in Å."""
    return 1.0 + energy_from_wavelength(wavelength) / ELECTRON_REST_ENERGY_EV
