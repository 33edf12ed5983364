"""Stretches of a scan: frames of a continuous rotation that overlap share the orientations that lie in both.

The ends of all frames cut a scan into stretches, and each stretch lies in the same frames from its start to its end. Across
the scan, too, the nodes of all frames are at the same places of one axis. A frame is then a sum over the whole of its
stretches, and every orientation is computed once: with frames of ±s every d, 2 s/d times fewer orientations along the scan.

The frames of a scan need not lie on one path: each has its own measured orientation, and stands beside the others by an
angle that counts for its nodes. Frames whose paths are askew are scans of their own, as are frames that overlap no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.measurement.experiment import Frame
from edtbx.measurement.geometry import place_in_frame

_ASKEW = 0.1
"""Part of the distance of two nodes by which paths may run apart where their frames overlap."""

_SAME_CUT = 0.02
"""Part of the distance of two tilts within which ends of frames are one cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A frame in a stretch: its number, the ``part`` of its length, and the place of its first node among the stretch's."""

    frame: int
    part: float = 1.0
    first: int = 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stretch:
    """Part of a scan that lies in the same frames from start to end.

    Attributes
    ----------
    frame : Frame
        Its centre and half its length.
    tilts : int
        Tilts at each node.
    y : (J',), radians
        Nodes across the scan.
    first : int
        Number of the first node on the axis of the scan.
    shares : tuple of Share
        The frames that it lies in.
    """

    frame: Frame
    tilts: int
    y: FloatArray
    first: int = 0
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Scan:
    """Frames that overlap: their places in the list, and where they stand beside the first, in radians."""

    places: list[int]
    beside: list[float]


def whole_frames(
    frames: Sequence[Frame], tilts: Sequence[int], nodes: FloatArray, bases: FloatArray
) -> tuple[list[Stretch], FloatArray]:
    """Every frame as a stretch of its own; parameters and results are those of :func:`stretches_of_scans`."""
    return [_whole(n, frames, tilts, bases[n] + nodes) for n in range(len(frames))], bases


def _whole(place: int, frames: Sequence[Frame], tilts: Sequence[int], y: FloatArray) -> Stretch:
    return Stretch(frame=frames[place], tilts=tilts[place], y=y, shares=(Share(frame=place),))


def stretches_of_scans(
    frames: Sequence[Frame], tilts: Sequence[int], nodes: FloatArray, bases: FloatArray
) -> tuple[list[Stretch], FloatArray]:
    """Stretches of frames of a continuous rotation, along the scan, and the bases (F,) moved to the nearest node.

    Parameters
    ----------
    frames : sequence of Frame
    tilts : sequence of int
        Tilts that each frame needs at a node.
    nodes : (J,), radians
        Nodes of a frame, equally spaced about its base.
    bases : (F,), radians
        Where they have their zero.
    """
    stretches, moved = [], bases.astype(float)
    for scan in _scans(frames, nodes, bases):
        if len(scan.places) == 1:
            (place,) = scan.places
            stretches.append(_whole(place, frames, tilts, bases[place] + nodes))
            continue
        step = float(nodes[1] - nodes[0])
        for place, beside in zip(scan.places, scan.beside, strict=True):
            moved[place] = step * round((bases[place] + beside) / step) - beside
        stretches += _cut(scan, frames, tilts, nodes, moved)
    return stretches, moved


def _scans(frames: Sequence[Frame], nodes: FloatArray, bases: FloatArray) -> list[_Scan]:
    """Frames in the order of the rotation, a new scan wherever one shares no orientation with those before."""
    scans: list[_Scan] = []
    widest = max((frame.semi_angle for frame in frames), default=0.0)
    for place in sorted(range(len(frames)), key=lambda n: frames[n].alpha):
        beside = _beside(scans[-1], place, frames, nodes, bases, widest) if scans and len(nodes) > 1 else None
        if beside is None:
            scans.append(_Scan(places=[place], beside=[0.0]))
        else:
            scans[-1].places.append(place)
            scans[-1].beside.append(beside)
    return scans


def _beside(
    scan: _Scan, place: int, frames: Sequence[Frame], nodes: FloatArray, bases: FloatArray, widest: float
) -> float | None:
    """Where a frame stands beside the first of a scan; None where it shares no nodes, or their paths are askew.

    The frames of a scan are in the order of the rotation, none with a greater semi-angle than the ``widest``.
    """
    step, reach = float(nodes[1] - nodes[0]), float(nodes[-1])
    beside: float | None = None
    for other, of_other in zip(reversed(scan.places), reversed(scan.beside), strict=True):
        if frames[other].alpha + widest <= frames[place].alpha - frames[place].semi_angle:
            break  # nor does any before it overlap
        ends = _overlap(frames[other], frames[place])
        if ends is None:
            continue
        along = np.array(ends) - frames[place].alpha
        if beside is None:
            beside = of_other + float(place_in_frame(frames[other], frames[place], float(along.mean()), 0.0)[1])
        if abs(bases[place] + beside - bases[other] - of_other) > 2.0 * reach:
            return None
        x, y = np.repeat(along, 2), bases[place] + np.array([-reach, reach, -reach, reach])
        there_x, there_y = place_in_frame(frames[other], frames[place], x, y)
        apart = there_y - y - (beside - of_other)
        moved = there_x - x - (frames[place].alpha - frames[other].alpha)
        if max(np.abs(apart).max(), np.abs(moved).max()) > _ASKEW * step:
            return None
    return beside


def _overlap(one: Frame, other: Frame) -> tuple[float, float] | None:
    """Angles α in radians between which two frames overlap."""
    start = max(one.alpha - one.semi_angle, other.alpha - other.semi_angle)
    end = min(one.alpha + one.semi_angle, other.alpha + other.semi_angle)
    return (start, end) if start < end else None


def _cut(
    scan: _Scan, frames: Sequence[Frame], tilts: Sequence[int], nodes: FloatArray, bases: FloatArray
) -> list[Stretch]:
    """Stretches between all ends of the frames of a scan."""
    step, half = float(nodes[1] - nodes[0]), len(nodes) // 2
    beside = dict(zip(scan.places, scan.beside, strict=True))
    middle = {place: round((bases[place] + beside[place]) / step) for place in scan.places}
    width = {place: 2.0 * frames[place].semi_angle / tilts[place] for place in scan.places}
    cuts = _cuts([frames[place] for place in scan.places], _SAME_CUT * min(width.values()))
    centres, lengths = 0.5 * (cuts[1:] + cuts[:-1]), np.diff(cuts)
    inside: list[list[int]] = [[] for _ in centres]
    length = {}
    for place in scan.places:
        alpha, semi = frames[place].alpha, frames[place].semi_angle
        own = range(*np.searchsorted(centres, [alpha - semi, alpha + semi]))
        length[place] = float(lengths[own].sum())
        for n in own:
            inside[n].append(place)
    stretches = []
    for centre, extent, places in zip(centres.tolist(), lengths.tolist(), inside, strict=True):
        first = min(middle[place] for place in places) - half
        numbers = np.arange(first, max(middle[place] for place in places) + half + 1)
        stretches.append(
            Stretch(
                frame=replace(frames[places[0]], alpha=centre, semi_angle=0.5 * extent),
                tilts=math.ceil(extent / min(width[place] for place in places) - 1e-6),
                y=step * numbers - beside[places[0]],
                first=first,
                shares=tuple(
                    Share(frame=place, part=extent / length[place], first=middle[place] - half - first)
                    for place in places
                ),
            )
        )
    return stretches


def _cuts(frames: Sequence[Frame], same: float) -> FloatArray:
    """Ends of frames in radians, ascending; of those nearer than ``same`` the first."""
    ends = np.sort([frame.alpha + sign * frame.semi_angle for frame in frames for sign in (-1.0, 1.0)])
    return ends[np.diff(ends, prepend=-math.inf) > same]
