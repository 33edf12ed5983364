"""Physical constants (CODATA 2018, exact or rounded to the last certain digit) in Å, eV and radians."""

from __future__ import annotations

import math

ELECTRON_REST_ENERGY_EV = 510998.95
"""m_e c² in eV."""

PLANCK_TIMES_C_EV_ANGSTROM = 12398.419843320026
"""h c in eV Å."""

VOLTS_PER_U = 47.878
"""Potential in volts per Fourier coefficient U = 2 m e V / h² in Å⁻²  divided by 2 m e / h² (rest mass)."""

VOLTS_PER_E_PER_A = 14.399645
"""e/(4π ε0) in V Å: potentials in e/Å, as some programs give them, times this are volts."""


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
