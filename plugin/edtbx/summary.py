"""What objects say of themselves, as those of cctbx do."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TextIO, TypeVar

_Itself = TypeVar("_Itself", bound="Summarised")


class Summarised(ABC):
    """Something with a description of a few lines, which ``str`` and ``show_summary`` give."""

    __slots__ = ()

    @abstractmethod
    def summary_lines(self) -> list[str]:
        """The description, line by line."""

    def show_summary(self: _Itself, f: TextIO | None = None, prefix: str = "") -> _Itself:
        """The object itself, after its description on ``f`` (standard output), each line behind ``prefix``."""
        print("\n".join(prefix + line for line in self.summary_lines()), file=sys.stdout if f is None else f)
        return self

    def __str__(self) -> str:
        return "\n".join(self.summary_lines())
