"""Estimates of the memory that a problem takes, and the memory available, in bytes.

The estimates are the arrays that grow with the problem; measured peaks (propagator and eigensolver, 300 to 4000 beams; up
to 2 million g vectors) lie between 0.7 and 1.0 of them where they exceed 0.3 GB.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edtbx.cell import Cell, cell_volume
from edtbx.measurement.experiment import Experiment

_PER_PLACE, _KEPT_PER_PLACE, _PER_VECTOR = 90.0, 8.0, 230.0
"""Bytes for each place of the box of indices while the g vectors are sought, and afterwards; and for each g vector: its
indices, what the space group says of it, its structure factors and their derivatives, and room to choose beams in."""

_PER_WAVE = 48.0
"""Bytes for each beam of each orientation: excitation error, surface term, and what these are made from."""

_COPIES_FOLDED, _COPIES, _MORE_COPIES = 1.7, 6.0, 2.0
"""How often a solver holds the coupling of a frame: where beams are folded, as often again for derivatives; where none are,
and how much more for derivatives."""

_LEAST_COUPLING = 12.0
"""Bytes for each pair of beams that no solver does without."""

_TERMS = 250e6
"""Most bytes of terms that a propagator keeps of a frame."""

_UNLIMITED = 1 << 60
"""Limits from here on mean that a control group of version 1 has none."""


class TooLarge(MemoryError):
    """The estimated memory exceeds what is available; raised before any is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSize:
    """Numbers of beams, orientations, y nodes, rows and thicknesses of a frame, which its memory depends on."""

    beams: int
    orientations: int
    nodes: int
    rows: int
    thicknesses: int

    @property
    def cube(self) -> float:
        """Bytes of the intensities at every y node and thickness; or of those kept in single precision, and weighted."""
        return 8.0 * self.nodes * self.rows * self.thicknesses

    def waves(self, coupling_bytes: float, folds: bool) -> float:
        """Bytes in use while intensities are computed, ``coupling_bytes`` (16 complex, 8 real) for each pair of beams.

        The coupling is gathered in double precision; one that folds beams copies it in single, the others several times.
        """
        copies = _COPIES_FOLDED if folds else _COPIES
        return copies * coupling_bytes * self.beams**2 + _PER_WAVE * self.beams * self.orientations + 2.0 * self.cube

    def way_back(self, coupling_bytes: float, folds: bool) -> float:
        """Bytes in use while derivatives are computed: more couplings, terms of a series, and a seed for every wave."""
        couplings = (_COPIES_FOLDED if folds else _MORE_COPIES) * coupling_bytes * self.beams**2
        terms = min(_TERMS, _PER_WAVE * self.beams * self.orientations)
        return (
            self.waves(coupling_bytes, folds)
            + couplings
            + terms
            + 8.0 * self.orientations * self.rows * self.thicknesses
        )


def vectors_bytes(cell: Cell, g_max: float) -> float:
    """Bytes that the g vectors out to 2 g_max (Å⁻¹) take at most, with the dense table that finds them."""
    reach = 2.0 * g_max
    places = float(np.prod(2.0 * np.floor(reach * np.asarray(cell[:3])) + 1.0))
    inside = 4.0 / 3.0 * math.pi * reach**3 * cell_volume(cell)
    return max(_PER_PLACE * places, _KEPT_PER_PLACE * places + _PER_VECTOR * inside)


def beams_near(cell: Cell, g_max: float, s_max: float, semi_angle: float) -> float:
    """Number of beams with |g| ≤ g_max that come within |S_g| ≤ s_max (Å⁻¹) during a scan through ±semi_angle (radians).

    Of the Ewald sphere π g_max² lie within g_max; the scan sweeps it over 2 semi_angle |g_y|, the mean of |g_y| being
    4 g_max/3π.
    """
    swept = 2.0 * semi_angle * 4.0 * g_max / (3.0 * math.pi)
    inside = 4.0 / 3.0 * math.pi * g_max**3
    return cell_volume(cell) * min(math.pi * g_max**2 * (2.0 * s_max + swept), inside)


def at_once(executor: Executor | None) -> int:
    """Number of frames that an executor works on at once in this machine's memory; 0 for workers elsewhere."""
    if executor is None:
        return 1
    if isinstance(executor, ThreadPoolExecutor | ProcessPoolExecutor):
        return int(executor._max_workers)  # type: ignore[union-attr]
    return 0


def frames_bytes(
    frames: Sequence[FrameSize], workers: int, *, coupling_bytes: float, folds: bool, derivatives: bool
) -> float:
    """Bytes for intensities or derivatives of all frames: the largest frames in work at once, and all results."""
    if derivatives:
        at_work, results = sorted(size.way_back(coupling_bytes, folds) for size in frames), 0.0
    else:
        at_work, results = (
            sorted(size.waves(coupling_bytes, folds) for size in frames),
            sum(size.cube for size in frames),
        )
    return sum(at_work[max(0, len(at_work) - workers) :]) + results


def expect_room(needed: float, what: str, remedy: str) -> None:
    """Check that ``needed`` bytes are available.

    Parameters
    ----------
    needed : float
        Bytes.
    what, remedy : str
        For the message: what takes them, and what takes less.

    Raises
    ------
    TooLarge
        Fewer are available.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise TooLarge(
            f"{what} would take {bytes_text(needed)} of memory, and {bytes_text(available)} are free: {remedy}"
        )


def expect_room_for_frames(sizes: Sequence[FrameSize], workers: int, remedy: str, **kinds: Any) -> None:
    """Check that the memory holds what frames of these sizes take; further arguments are those of :func:`frames_bytes`.

    Raises
    ------
    TooLarge
        By the estimate it does not.
    """
    needed, alone = (frames_bytes(sizes, number, **kinds) for number in (workers, min(workers, 1)))
    expect_room(
        needed,
        f"frames of up to {max(size.beams for size in sizes)} beams and {max(size.orientations for size in sizes)} "
        f"orientations, {workers} of them at a time,",
        remedy + (f", or take fewer threads (nproc=1 takes {bytes_text(alone)})" if alone < 0.9 * needed else ""),
    )


def expect_room_for(experiment: Experiment, g_max: float, s_max: float) -> None:
    """Check that memory holds the g vectors out to 2 g_max and one coupling of the beams within s_max (both in Å⁻¹).

    Raises
    ------
    TooLarge
        By the estimate it does not.
    """
    semi_angle = max((frame.semi_angle for frame in experiment.frames), default=0.0)
    beams = beams_near(experiment.cell, g_max, s_max, semi_angle)
    expect_room(
        vectors_bytes(experiment.cell, g_max) + _LEAST_COUPLING * beams**2,
        f"beams out to {g_max:g} 1/Å with |S_g| up to {s_max:g} 1/Å, some {beams:.2g} in a frame,",
        "lower g_max or s_max",
    )


def bytes_text(number: float) -> str:
    """A number of bytes as text, in MB, GB or TB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e6:.0f} MB"


def available_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take without swapping, by machine and control groups; None if neither tells."""
    limits = [*_of_the_machine(root), *_of_control_groups(root)]
    return max(0, min(limits)) if limits else None


def _of_the_machine(root: Path) -> Iterator[int]:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            yield int(value.split()[0]) * 1024
            return
    if {"SC_AVPHYS_PAGES", "SC_PAGE_SIZE"} <= set(getattr(os, "sysconf_names", {})):
        yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_control_groups(root: Path) -> Iterator[int]:
    """Bytes left to each control group (version 1 or 2) that this process is in, up to the topmost visible one."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, usage = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, usage = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = Path(path.lstrip("/"))
        for folder in (top / part for part in (group, *group.parents)):
            ceiling, used = _text(folder / limit).strip(), _text(folder / usage).strip()
            if ceiling.isdigit() and used.isdigit() and int(ceiling) < _UNLIMITED:
                yield int(ceiling) - int(used) + _reclaimable(folder)


def _reclaimable(folder: Path) -> int:
    """Bytes of cached files that a control group gives up when memory is short."""
    counts = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    return int(counts.get("total_inactive_file", counts.get("inactive_file", "0")))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
