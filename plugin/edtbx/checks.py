"""Checks of arguments at the public boundary, with messages that name the argument and the value got."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeVar

_Kind = TypeVar("_Kind")


def expect_number(value: Any, name: str) -> float:
    """The value as a float, if it is a real number.

    Raises
    ------
    TypeError
        It is not a real number (a bool is none).
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def expect_positive(value: Any, name: str, unit: str = "") -> float:
    """A finite number > 0.

    Raises
    ------
    TypeError, ValueError
        It is none.
    """
    if not 0.0 < expect_number(value, name) < math.inf:
        raise ValueError(f"{name} must be > 0{unit and f' {unit}'}, got {value:g}")
    return float(value)


def given_or_default(value: _Kind | None, kind: type[_Kind], name: str) -> _Kind:
    """An instance of a class: the value or, where there is none, one with the defaults.

    Raises
    ------
    TypeError
        The value is of another class.
    """
    return kind() if value is None else expect_kind(value, kind, name)


def expect_kind(value: Any, kind: type[_Kind], name: str) -> _Kind:
    """The value itself, if it is an instance of a class.

    Raises
    ------
    TypeError
        It is an instance of another class.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be of type {kind.__name__}, got {value!r}")
    return value


def expect_word(value: Any, words: Iterable[str], name: str) -> str:
    """The value itself, if it is one of the allowed words.

    Raises
    ------
    ValueError
        It is not among them.
    """
    if not isinstance(value, str) or value not in (known := list(words)):
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {value!r}")
    return known[known.index(value)]
