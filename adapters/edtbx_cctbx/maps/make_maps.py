"""Difference-potential maps of a structure: fit of nuisance parameters, maps of all kinds, peaks, and hydrogen."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from cctbx import xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from edtbx.checks import given_or_default
from edtbx.execution.progress import SILENT, Reporter, one_step
from edtbx.levels.sampling_levels import DRAFT, USUAL
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.statistics import Statistics
from edtbx.summary import Summarised
from edtbx_cctbx.arrays import from_numpy
from edtbx_cctbx.maps.coefficients import KINDS, DynamicalMap
from edtbx_cctbx.maps.hydrogen_peaks import Proposal, find_hydrogens
from edtbx_cctbx.maps.peaks import ON_ATOM, Peak, distances_to, find_holes, find_peaks
from edtbx_cctbx.refinement.settings import Settings
from edtbx_cctbx.targets.target import Target

FOUND = 0.35
"""Greatest distance in Å of a peak from the site of an omitted atom that it shows."""

_TOLERANCE = Settings().tolerance
"""Tolerance below which the level of sampling is searched for; the usual one does for coarser maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSettings(Settings):
    """Settings of a fit, and of maps.

    ``kind`` is the map whose peaks are listed; ``omit`` are patterns of labels (``H*``) of atoms that are left out;
    ``atoms_follow`` as in :class:`DynamicalMap`; ``hydrogens`` looks for hydrogen at peaks; ``scattering_type`` is the type
    of missing atoms.

    Raises
    ------
    ValueError
        Priors of frames are to be learnt: maps do not, yet.
    """

    kind: str = "newton"
    omit: Sequence[str] = ()
    atoms_follow: bool = True
    hydrogens: bool = False
    scattering_type: str = "H"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.learn:
            raise ValueError("maps do not learn how frames vary: leave learn out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """An atom that was left out, the peak at its site, None without one, and their distance in Å."""

    label: str
    site: tuple[float, float, float]
    peak: Peak | None
    away: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MapQuality:
    """Quality of one kind of map in volts: root mean square, extremes, peaks, and recovery of the atoms left out.

    ``highest`` and ``deepest`` are the extremes more than :data:`ON_ATOM` away from any atom, known or left out: noise, or
    atoms still missing.
    """

    rms: float
    maximum: float
    minimum: float
    highest: float
    deepest: float
    peaks: Sequence[Peak]
    recovered: Sequence[Recovered]

    @property
    def off_atoms(self) -> list[Peak]:
        """The peaks that are not on an atom, in falling order."""
        return [peak for peak in self.peaks if not peak.is_on_atom]

    @property
    def number_found(self) -> int:
        """Number of atoms left out that have a peak."""
        return sum(atom.peak is not None for atom in self.recovered)

    @property
    def contrast(self) -> float:
        """Lowest peak of the atoms left out over the highest false peak; NaN where not all have one."""
        heights = [atom.peak.height_volts for atom in self.recovered if atom.peak is not None]
        if not heights or len(heights) < len(self.recovered):
            return float("nan")
        return min(heights) / max(self.highest, 1e-300)

    @property
    def above_false(self) -> int:
        """Number of atoms left out with peaks above the highest false one."""
        return sum(atom.peak is not None and atom.peak.height_volts > self.highest for atom in self.recovered)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Maps(Summarised):
    """Maps of one structure, their quality and peaks, and proposed hydrogen.

    ``structure`` lacks the atoms left out; ``with_hydrogen`` has the proposed hydrogen, None where none was asked for.
    """

    structure: xray.structure
    experiment: Experiment
    calculator: DynamicalMap
    kind: str
    statistics: Statistics
    qualities: dict[str, MapQuality]
    proposals: Sequence[Proposal]
    with_hydrogen: xray.structure | None
    total_seconds: float
    parameters: dict[str, Any] = field(default_factory=dict)

    def summary_lines(self) -> list[str]:
        """R factor and nuisance parameters; for each kind of map root mean square, extremes and recovered atoms."""
        lines = [
            f"Maps of {self.structure.scatterers().size()} atoms, R(obs) {self.statistics.r_obs:.4f}",
            f"Crystal: {self.calculator.reweighted.nuisance.describe()}",
        ]
        for kind, quality in self.qualities.items():
            omitted = len(quality.recovered)
            recovered = f", {quality.number_found} of {omitted} atoms left out" if omitted else ""
            lines.append(
                f"{kind}: rms {quality.rms:.2f} V, off the atoms {quality.deepest:.2f} to {quality.highest:.2f} V{recovered}"
            )
        if self.proposals:
            lines.append(f"Hydrogen proposed: {len(self.proposals)} atoms")
        return lines

    @property
    def quality(self) -> MapQuality:
        """Quality of the kind of map whose peaks are listed."""
        return self.qualities[self.kind]

    @property
    def farthest_to_follow(self) -> tuple[str, float]:
        """Label and shift in Å of the atom that moves farthest with the map estimate of kind ``newton``."""
        far = self.calculator.distances_followed
        place = int(np.argmax(far))
        return self.structure.scatterers()[place].label, float(far[place])


def make_maps(
    experiment: Experiment,
    structure: xray.structure,
    settings: MapSettings | None = None,
    report: Reporter = SILENT,
    parameters: dict[str, Any] | None = None,
) -> Maps:
    """Maps of all kinds of a structure without the atoms left out; the structure given is not changed.

    Parameters
    ----------
    experiment : Experiment
    structure : xray.structure
    settings : MapSettings, optional
        Solver, accuracy, selection of rows; kind of map, atoms left out, and search for hydrogen.
    report : Reporter
        Shows progress.
    parameters : dict, optional
        Kept in the result, as a record.

    Raises
    ------
    Sorry
        No atom has a label to leave out, none is left, or the solver gives no derivatives.
    """
    began = time.perf_counter()
    settings = given_or_default(settings, MapSettings, "settings")
    settings.check_derivatives("maps need")
    left_out = chosen_atoms(structure, settings.omit)
    known = structure.select(~left_out)
    omitted = structure.select(left_out)
    scattering = settings.scattering_model(settings.solver, experiment, known)
    start = scattering.fit_coarse(known, report.progress(f"{settings.solver}, coarse"))
    report.say(f"{settings.solver}: {start.describe()}")
    level = USUAL
    if settings.tolerance < _TOLERANCE:
        progress = report.progress(f"{settings.solver}, level")
        level = scattering.choose_level(known, start, progress).level
    calculator = DynamicalMap(
        Target.of(*scattering.at_level(level, start)),
        known,
        rows_from=Target.of(*scattering.at_level(DRAFT, start)),
        atoms_follow=settings.atoms_follow,
        scattering_type=settings.scattering_type,
        progress=report.progress(f"{settings.solver}, map"),
    )
    qualities = {}
    for kind in KINDS:
        with one_step(report.progress(f"map {kind}")):
            qualities[kind] = _quality(calculator, kind, omitted)
    completed: xray.structure | None = None
    proposals: list[Proposal] = []
    if settings.hydrogens:
        with one_step(report.progress("hydrogen")):
            completed, proposals = find_hydrogens(known, qualities[settings.kind].peaks)
    return Maps(
        structure=known,
        experiment=scattering.experiment,
        calculator=calculator,
        kind=settings.kind,
        statistics=calculator.target.statistics(calculator.fitted.calculated),
        qualities=qualities,
        proposals=proposals,
        with_hydrogen=completed,
        total_seconds=time.perf_counter() - began,
        parameters=parameters or {},
    )


def chosen_atoms(structure: xray.structure, patterns: Sequence[str]) -> flex.bool:
    """Selection (A,) of atoms whose labels match one of the patterns (``H*``, ``O1``), in either case.

    Raises
    ------
    Sorry
        A pattern matches no label, or all atoms are chosen.
    """
    labels = [scatterer.label for scatterer in structure.scatterers()]
    chosen = np.zeros(len(labels), dtype=bool)
    for pattern in patterns:
        fits = np.array([fnmatch.fnmatchcase(label.upper(), pattern.upper()) for label in labels])
        if not fits.any():
            raise Sorry(f"map.omit: no atom is called {pattern}; there are {', '.join(labels)}")
        chosen |= fits
    if chosen.all():
        raise Sorry("map.omit leaves no atom: name fewer of them")
    return from_numpy(chosen)


def _quality(calculator: DynamicalMap, kind: str, omitted: xray.structure) -> MapQuality:
    known, fft_map = calculator.xray_structure, calculator.fft_map(kind)
    peaks, holes = find_peaks(fft_map, known), find_holes(fft_map, known)
    if kind == "newton":
        errors = calculator.standard_uncertainties(np.array([peak.site for peak in peaks]))
        peaks = [replace(peak, height_su=float(error)) for peak, error in zip(peaks, errors, strict=True)]
    statistics = fft_map.statistics()
    everything = known.concatenate(omitted)
    highest, deepest = (_highest_off_atoms(extremes, everything) for extremes in (peaks, holes))
    return MapQuality(
        rms=float(statistics.sigma()),
        maximum=float(statistics.max()),
        minimum=float(statistics.min()),
        highest=highest,
        deepest=-deepest,
        peaks=peaks,
        recovered=[_recovered(place, peaks, omitted) for place in range(omitted.scatterers().size())],
    )


def _highest_off_atoms(peaks: Sequence[Peak], structure: xray.structure) -> float:
    away = distances_to([peak.site for peak in peaks], structure)[1]
    return max((peak.height_volts for peak, far in zip(peaks, away, strict=True) if far >= ON_ATOM), default=0.0)


def _recovered(place: int, peaks: Sequence[Peak], omitted: xray.structure) -> Recovered:
    """The peak, if any, of the omitted atom with this index."""
    scatterer = omitted.scatterers()[place]
    away = distances_to([peak.site for peak in peaks], omitted.select(flex.size_t([place])))[1]
    near = np.flatnonzero(away < FOUND)
    best = int(near[0]) if len(near) else None  # they come in falling order
    return Recovered(
        label=scatterer.label,
        site=tuple(scatterer.site),
        peak=None if best is None else peaks[best],
        away=float("nan") if best is None else float(away[best]),
    )
