"""Levels of sampling, from coarse to fine.

Features of the intensity are 1/(t |g|) wide in both angles of an orientation. A level says how many tilts and y nodes
meet one such width, and what of the beams is left out (:mod:`edtbx.levels.level_search` finds the one to take).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.nuisance import Nuisance
from edtbx.intensities.sampling import Sampling
from edtbx.intensities.thickness import mean_thickness
from edtbx.solvers.block import Accuracy

COARSE = Sampling(
    accuracy=Accuracy(s_max=0.03, s_strong=0.003, tolerance=1e-4),
    tilt_thickness=800.0,
    spread_reach=float(np.radians(0.4)),
    spread_spacing=float(np.radians(0.1)),
    shared=True,
    thickness_max=3000.0,
    thickness_step=50.0,
)
"""Sampling for an unknown thickness: an error of 2 to 5 % in amplitudes on crystals of 1000 to 2000 Å. With beams out to
0.02 and 0.002 Å⁻¹ urea without hydrogen is found to be 1430 Å thick in place of 1800."""

_MOVE = float(np.radians(0.06))
"""Largest shift of the centre of a frame (radians) at one of the levels below, from where a coarser one left it; one spacing
where centres are settled."""

_NARROWEST = float(np.radians(0.02))
"""Least spread (radians) for which the y nodes are laid out, so that it can grow."""

ROOM_FOR_TRENDS = 1.7
"""How far thicknesses reach where it is yet to be learnt whether the crystal is thicker at one end of the scan."""

_STEPS = 30.0
"""Thicknesses of a usual grid. Intensities are then off by 0.004 s.u.s (slab: 0.02)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Fineness of sampling for a crystal of known thickness.

    ``tilts`` is the number of tilts as a part of what integrates the rocking curves of the thickest part exactly, where the
    spread sums over some y nodes; ``spacing`` the distance of the y nodes in units of 1/(mean thickness · largest |g|),
    where the spread is as wide, and a quarter of that where there is none. Where spread and centres are ``settled``, they
    have less room to change; thicknesses reach up to ``room`` times the greatest one.
    """

    accuracy: Accuracy
    tilts: float
    spacing: float
    settled: bool = False
    room: float = 1.2

    def sampling(self, nuisance: Nuisance, bounds: NuisanceBounds, g_max: float) -> Sampling:
        """Sampling for the thickness and spread known, and reflections out to ``g_max`` in Å⁻¹.

        The y nodes, counted from the centre of each frame, reach as far as it may still move and 2.5 σ more. The tilts are
        those of the thickness that frames share; thicknesses reach beyond that of every frame.
        """
        histogram = nuisance.histogram
        common = nuisance.thickness if histogram is None else float(histogram[0, np.flatnonzero(histogram[1])[-1]])
        thickest = common if histogram is not None else float(nuisance.thicknesses.max(initial=common))
        widest = float(nuisance.sigmas.max(initial=nuisance.sigma))
        mean = mean_thickness(nuisance.shape, nuisance.thickness)
        width = 1.0 / (mean * g_max)
        wanted = np.clip(nuisance.sigma, self.spacing / _SHARPER * width, self.spacing * width)
        spacing = float(np.clip(wanted, np.radians(0.005), np.radians(0.15)))
        shared = nuisance.sigma >= _WIDE * spacing
        move = (spacing if self.settled else max(spacing, _MOVE)) if bounds.refine_centres else 0.0
        widest = widest if self.settled else max(widest, _NARROWEST)
        summed = max(1.0, _NODES_SUMMED * nuisance.sigma / spacing)
        return Sampling(
            accuracy=self.accuracy,
            tilt_thickness=max(self.tilts, _ALONE / summed) * common,
            spread_reach=max(move + 2.5 * widest, 1.5 * spacing),
            between=bounds.refine_centres and not shared,
            spread_spacing=spacing,
            centre_reach=move,
            shared=shared,
            thickness_max=self.room * thickest,
            thickness_step=1.2 * thickest / _STEPS,
        )


_SHARPER = 4.0
"""How much closer nodes are where no spread smooths what lies between. On quartz, whose spread is narrow, interpolation
between nodes 2, 1 and 0.5 units apart errs by 0.95, 0.39 and 0.12, beside a misfit of 1.6."""

_ALONE = 0.85
"""Least part of the exact number of tilts where a single y node has all the weight: on quartz and CsPbBr3, whose spread is
zero, half of it doubles the error (0.46 for 0.17, 0.40 for 0.19)."""

_NODES_SUMMED = 3.5
"""Number of y nodes that share the weight of a spread of one spacing: 2 √π."""

_WIDE = 0.45
"""Least spread in units of the spacing with which frames share nodes: sums over a narrower one depend on where these are."""

DRAFT = Level(accuracy=Accuracy(s_max=0.03, s_strong=0.003, tolerance=1e-4), tilts=0.25, spacing=6.0)
"""The level at which atoms move, corrected by a finer one."""

FOR_ROWS = Level(accuracy=Accuracy(s_max=0.03, s_strong=0.003, tolerance=1e-4), tilts=0.35, spacing=4.0)
"""The level of rows of a design matrix that stand for gradients: another 0.03 (paracetamol) to 0.1 (urea) of their length
off the mark."""

BEAMS = tuple(
    Accuracy(s_max=s_max, s_strong=s_strong, tolerance=1e-5)
    for s_max, s_strong in (
        (0.02, 0.002),
        (0.03, 0.003),
        (0.045, 0.005),
        (0.06, 0.0075),
        (0.09, 0.01),
        (0.12, 0.015),
        (0.16, 0.02),
    )
)
"""Limits on beams, from coarse to fine. Each takes some 1.3 to 1.8 times as long as the one before."""

ORIENTATIONS = ((0.35, 2.0), (0.42, 2.0), (0.5, 2.0), (0.6, 1.5), (0.7, 1.2), (0.85, 1.0), (1.0, 0.8), (1.2, 0.7))
"""``tilts`` and ``spacing`` of levels, from coarse to fine. Each takes some 1.1 to 1.5 times as long as the one before."""


def level(beams: int, orientations: int) -> Level:
    """The level with these of :data:`BEAMS` and :data:`ORIENTATIONS`."""
    tilts, spacing = ORIENTATIONS[orientations]
    return Level(accuracy=BEAMS[beams], tilts=tilts, spacing=spacing)


FIRST = level(0, 1)
"""The level of cycles on some of the frames."""

USUAL = level(1, 2)
"""The level at which thickness laws are compared."""


def coarser(fine: Level, steps: int) -> Level | None:
    """A level so many steps coarser than one of those above, but no coarser than :data:`USUAL`; None if that is as fine."""
    if fine.accuracy not in BEAMS or (fine.tilts, fine.spacing) not in ORIENTATIONS:
        return None
    beams, orientations = BEAMS.index(fine.accuracy), ORIENTATIONS.index((fine.tilts, fine.spacing))
    usual = BEAMS.index(USUAL.accuracy), ORIENTATIONS.index((USUAL.tilts, USUAL.spacing))
    found = level(min(beams, max(beams - steps, usual[0])), min(orientations, max(orientations - steps, usual[1])))
    found = replace(found, settled=fine.settled)
    return None if found == fine else found
