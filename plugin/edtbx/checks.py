"""Arguments looked at once, where they come in: what was expected, what came, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeVar

_Kind = TypeVar("_Kind")


def expect_number(value: Any, name: str) -> float:
    """A real number.

    Raises
    ------
    TypeError
        It is none.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def expect_kind(value: Any, kind: type[_Kind], name: str) -> _Kind:
    """An instance of a class.

    Raises
    ------
    TypeError
        It is none.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be of type {kind.__name__}, got {value!r}")
    return value


def expect_word(value: Any, words: Iterable[str], name: str) -> str:
    """One of some words.

    Raises
    ------
    ValueError
        It is another.
    """
    if not isinstance(value, str) or value not in (known := list(words)):
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {value!r}")
    return known[known.index(value)]
