"""Checkpoints of a refinement: a run that was killed goes on from file, one that is interrupted ends with its last cycle.

A refinement calls :meth:`Checkpoint.step` for each long computation. A restarted run makes the same calls from the start,
takes from the file what is there, and computes the rest; quick computations between are repeated. Both runs give the same
result, to the last digit.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cctbx import xray
from libtbx.utils import Sorry

from edtbx_cctbx.io.output_files import why, write_whole

_Value = TypeVar("_Value")
_FORMAT = b"edtbx checkpoint 1\n"


class Checkpoint:
    """Results of the long computations of a refinement, by name.

    Parameters
    ----------
    path
        File they are written to; None writes nothing.
    belongs_to
        Inputs, parameters and versions that the results depend on, by name. A run goes on only if all are the same.

    Attributes
    ----------
    latest
        Function that makes the fit of the last complete cycle of the theory in progress; None before the first.
    has_news
        Whether anything was computed that was not in the file.
    """

    def __init__(self, path: Path | None = None, belongs_to: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._belongs_to = dict(belongs_to or {})
        self._done: dict[str, bytes] = {}
        self._within: list[str] = []
        self._seconds_before = 0.0
        self._began = time.perf_counter()
        self.latest: Callable[[], Any] | None = None
        self.has_news = False

    @classmethod
    def read(cls, path: Path, belongs_to: Mapping[str, str]) -> Checkpoint:
        """The checkpoint that a run that was killed has left.

        Raises
        ------
        Sorry
            The file is damaged, or of a run with other inputs, parameters or versions.
        """
        checkpoint = cls(path, belongs_to)
        try:
            raw = path.read_bytes()
            if not raw.startswith(_FORMAT):
                raise ValueError("unknown format")
            content = pickle.loads(raw[len(_FORMAT) :])
            before, done, seconds = (content[name] for name in ("belongs_to", "done", "seconds"))
        except Exception as error:  # unpickling raises anything over a damaged file
            raise Sorry(f"{path} is no checkpoint to go on from ({error}): remove it, and start anew") from error
        for name in sorted({*before, *belongs_to}):
            then, now = (str(conditions.get(name, "nothing")) for conditions in (before, belongs_to))
            if then != now:
                raise Sorry(
                    f"{path} is of a run with another {name} ({then}, not {now}): start as that run was started, or remove "
                    "the file and start anew"
                )
        checkpoint._done, checkpoint._seconds_before = done, seconds
        return checkpoint

    def step(self, name: str, compute: Callable[[], _Value]) -> _Value:
        """Result of a computation, taken from the checkpoint or computed and added to it.

        Either way it has been pickled, so that both runs agree. Steps within this one are dropped once it is done.

        Raises
        ------
        Sorry
            The file cannot be written.
        """
        key = "/".join([*self._within, name])
        if key not in self._done:
            self._within.append(name)
            try:
                value = pickle.dumps(compute())
            finally:
                self._within.pop()
            for within in [other for other in self._done if other.startswith(f"{key}/")]:
                del self._done[within]
            self._done[key] = value
            self.has_news = True
            self._write()
        return pickle.loads(self._done[key])

    @property
    def seconds(self) -> float:
        """Seconds taken so far, earlier runs included."""
        return self._seconds_before + time.perf_counter() - self._began

    def remove(self) -> None:
        """Remove the file, once the result is safe."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._path is None:
            return
        content = {"belongs_to": self._belongs_to, "done": self._done, "seconds": self.seconds}
        try:
            write_whole(self._path, _FORMAT + pickle.dumps(content))
        except OSError as error:
            raise Sorry(
                f"cannot write {self._path} ({why(error)}): make room, and go on with restart=True, if it is there"
            ) from error


def atoms_of(structure: xray.structure) -> list[tuple[Any, ...]]:
    """Sites, displacements and occupancies of all atoms, as numbers that can be pickled."""
    return [(tuple(s.site), s.u_iso, tuple(s.u_star), s.occupancy) for s in structure.scatterers()]


def put_atoms(structure: xray.structure, atoms: list[tuple[Any, ...]]) -> None:
    """Set the atoms of a structure, in place, to those that :func:`atoms_of` returned."""
    for scatterer, (site, u_iso, u_star, occupancy) in zip(structure.scatterers(), atoms, strict=True):
        scatterer.site, scatterer.u_iso, scatterer.u_star, scatterer.occupancy = site, u_iso, u_star, occupancy
