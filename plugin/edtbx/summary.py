"""Text summaries of objects, by the ``show_summary`` of cctbx."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TextIO, TypeVar

_Itself = TypeVar("_Itself", bound="Summarised")


class Summarised(ABC):
    """Base class of objects with a summary of a few lines, for ``str`` and ``show_summary``."""

    __slots__ = ()

    @abstractmethod
    def summary_lines(self) -> list[str]:
        """Lines of the summary."""

    def show_summary(self: _Itself, f: TextIO | None = None, prefix: str = "") -> _Itself:
        """The object itself, after printing its summary to ``f`` (standard output), each line behind ``prefix``."""
        print("\n".join(prefix + line for line in self.summary_lines()), file=sys.stdout if f is None else f)
        return self

    def __str__(self) -> str:
        return "\n".join(self.summary_lines())
