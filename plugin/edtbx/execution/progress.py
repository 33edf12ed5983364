"""Progress and messages of long computations."""

from __future__ import annotations

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


SILENT = Reporter()
"""Reporter that drops everything."""
