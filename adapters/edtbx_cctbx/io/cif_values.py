"""Comparison of CIF values, as text or as numbers within their digits."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d+\))?")
_MOST_DIGITS = 300
_SAME = 1e-3
"""Relative difference of numbers that agree to the digits given, and may still be two."""


def equal(one: str, other: str) -> bool:
    """Whether two values are the same text, or numbers that agree to the digits of the shorter one."""
    one, other = (_bare(value) for value in (one, other))
    if one == other:
        return True
    numbers = [float(match[1]) for value in (one, other) if (match := _NUMBER.fullmatch(value))]
    if len(numbers) < 2:
        return False
    apart = abs(numbers[0] - numbers[1])
    return apart <= _SAME * abs(numbers[0]) and apart <= 0.501 * 10.0 ** -min(decimals(one), decimals(other))


def decimals(value: str) -> int:
    """Digits behind the point of a number; a power of ten counts."""
    match = _NUMBER.fullmatch(_bare(value))
    if match is None:
        return 0
    mantissa, _, power = match[1].lower().partition("e")
    return len(mantissa.partition(".")[2]) - max(-_MOST_DIGITS, min(_MOST_DIGITS, int(power or 0)))


def all_equal(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two columns are equal, value by value."""
    return len(one) == len(other) and all(equal(x, y) for x, y in zip(one, other, strict=True))


def _bare(value: str) -> str:
    """A value without its quotes, and with single spaces."""
    if (value[0] in "'\"" and value[-1] == value[0] and len(value) > 1) or (value[0] == ";" and "\n" in value):
        value = value[1:-1]
    return " ".join(value.split())
