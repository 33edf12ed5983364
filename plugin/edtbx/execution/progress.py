"""Progress and messages of long computations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Result = TypeVar("_Result")

Progress = Callable[[Iterable[_Result], int], Iterable[_Result]]
"""Wraps an iterable of the given length to show its progress."""


def no_progress(items: Iterable[_Result], total: int) -> Iterable[_Result]:
    """The items as they are: no progress is shown."""
    return items


@contextmanager
def one_step(progress: Progress[Any]) -> Iterator[None]:
    """Context that shows work without measurable progress as an iterable of one item."""
    shown = iter(progress((None,), 1))
    next(shown)
    try:
        yield
    finally:
        next(shown, None)


class Reporter:
    """Receiver of progress and result lines of a computation; the base class drops both, programs derive one that prints."""

    def progress(self, label: str) -> Progress[Any]:
        """Progress display for the stage of this label."""
        return no_progress

    def say(self, line: str) -> None:
        """Take a line of results."""

    def behind(self, prefix: str) -> Reporter:
        """The same reporter with a prefix before each line of results."""
        return _Prefixed(self, prefix)


class _Prefixed(Reporter):
    def __init__(self, reporter: Reporter, prefix: str) -> None:
        self._reporter, self._prefix = reporter, prefix

    def progress(self, label: str) -> Progress[Any]:
        return self._reporter.progress(label)

    def say(self, line: str) -> None:
        self._reporter.say(f"{self._prefix}{line}")


class CountingReporter(Reporter):
    """A reporter that counts, too, how often each kind of work was done and the seconds it took, and hands the rest on.

    The kind is the last part of a label, after a comma, where that is one of :data:`KINDS`, and "cycles" otherwise.

    Attributes
    ----------
    seconds : dict
        Seconds by kind of work.
    passes : dict
        Passes over frames by kind of work, over some of the frames or over all.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.seconds: dict[str, float] = {}
        self.passes: dict[str, int] = {}

    def progress(self, label: str) -> Progress[Any]:
        """Progress display of the reporter, counted."""
        shown, last = self._reporter.progress(label), label.rpartition(", ")[2]
        kind = last if last in KINDS else "cycles"

        def counted(items: Iterable[_Result], total: int) -> Iterator[_Result]:
            began = time.perf_counter()
            try:
                yield from shown(items, total)
            finally:
                self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - began
                self.passes[kind] = self.passes.get(kind, 0) + 1

        return counted

    @property
    def costs(self) -> dict[str, dict[str, float]]:
        """Both, as a record."""
        return {"seconds": dict(self.seconds), "passes": dict(self.passes)}

    def say(self, line: str) -> None:
        """Hand a line of results on."""
        self._reporter.say(line)


KINDS = ("coarse", "law", "level", "rows", "fine", "hydrogen")
"""Kinds of work that are counted apart; all else are cycles of refinement."""

SILENT = Reporter()
"""Reporter that drops everything."""
