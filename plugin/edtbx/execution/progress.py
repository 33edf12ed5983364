"""How far long computations have come, and what they tell on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Result = TypeVar("_Result")

Progress = Callable[[Iterable[_Result], int], Iterable[_Result]]
"""Wraps an iterable of the given length to show how far it has come."""


def no_progress(items: Iterable[_Result], total: int) -> Iterable[_Result]:
    """Show nothing."""
    return items


@contextmanager
def one_step(progress: Progress[Any]) -> Iterator[None]:
    """Show work that cannot tell how far it has come, as an iterable of one item."""
    shown = iter(progress((None,), 1))
    next(shown)
    try:
        yield
    finally:
        next(shown, None)


class Reporter:
    """Takes what a long computation tells of itself; this one drops it, and a program's own shows it."""

    def progress(self, label: str) -> Progress[Any]:
        """What shows how far the stage of this label has come."""
        return no_progress

    def say(self, line: str) -> None:
        """Take a line of results."""

    def behind(self, prefix: str) -> Reporter:
        """The same with a prefix before what is said."""
        return _Prefixed(self, prefix)


class _Prefixed(Reporter):
    def __init__(self, reporter: Reporter, prefix: str) -> None:
        self._reporter, self._prefix = reporter, prefix

    def progress(self, label: str) -> Progress[Any]:
        return self._reporter.progress(label)

    def say(self, line: str) -> None:
        self._reporter.say(f"{self._prefix}{line}")


SILENT = Reporter()
"""Drops everything."""
