"""What a refinement has done so far: on file, so that a run that was killed goes on, and at hand for one that is stopped.

A refinement asks for each long computation by :meth:`Checkpoint.step`. A run that goes on asks again from the start, is
given what the file has, and computes the rest; what comes between is quick and done anew. So both runs take the same way,
to the last digit.
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
from edtbx_cctbx.refinement.results import TheoryFit

_Value = TypeVar("_Value")
_FORMAT = b"edtbx checkpoint 1\n"


class Checkpoint:
    """The long computations of a refinement that are done, by name.

    Parameters
    ----------
    path
        Where they are kept; None keeps nothing.
    belongs_to
        What the computations depend on, by name: inputs, parameters, versions. A run goes on only where all of it is the
        same.

    Attributes
    ----------
    latest
        Makes the fit of the theory in progress, of its last complete cycle in this run; None before the first.
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
        self.latest: Callable[[], TheoryFit] | None = None
        self.has_news = False

    @classmethod
    def read(cls, path: Path, belongs_to: Mapping[str, str]) -> Checkpoint:
        """What a run that was killed has left.

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
            there = pickle.loads(raw[len(_FORMAT) :])
            before, done, seconds = (there[name] for name in ("belongs_to", "done", "seconds"))
        except Exception as error:  # unpickling raises anything over a damaged file
            raise Sorry(f"{path} is no checkpoint to go on from ({error}): remove it, and start anew") from error
        for name in sorted({*before, *belongs_to}):
            then, now = (str(each.get(name, "nothing")) for each in (before, belongs_to))
            if then != now:
                raise Sorry(
                    f"{path} is of a run with another {name} ({then}, not {now}): start as that run was started, or remove "
                    "the file and start anew"
                )
        checkpoint._done, checkpoint._seconds_before = done, seconds
        return checkpoint

    def step(self, name: str, compute: Callable[[], _Value]) -> _Value:
        """What a computation gives: from the file where it is there, as it would come from there where it is not.

        Steps within this one are forgotten once it is done.
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
        """Time taken so far, that of runs before this one included."""
        return self._seconds_before + time.perf_counter() - self._began

    def remove(self) -> None:
        """Remove the file: the result is safe."""
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
    """Sites, displacements and occupancies, which are what moves, as numbers."""
    return [(tuple(s.site), s.u_iso, tuple(s.u_star), s.occupancy) for s in structure.scatterers()]


def put_atoms(structure: xray.structure, atoms: list[tuple[Any, ...]]) -> None:
    """Bring a structure to where :func:`atoms_of` found it."""
    for scatterer, (site, u_iso, u_star, occupancy) in zip(structure.scatterers(), atoms, strict=True):
        scatterer.site, scatterer.u_iso, scatterer.u_star, scatterer.occupancy = site, u_iso, u_star, occupancy
