"""Columns of the atoms in a CIF block: words and numbers of every row, where unknown values are one atom's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from libtbx.utils import Sorry

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?:\([^()]*\))?")


def number(value: str) -> float | None:
    """A number of a CIF, without its standard uncertainty; None for ``?`` and ``.``.

    Raises
    ------
    ValueError
        It is none.
    """
    if is_unknown(value):
        return None
    match = _NUMBER.fullmatch(value.strip())
    if match is None:
        hint = " (is the comma a decimal point?)" if re.fullmatch(r"\s*[+-]?\d*,\d+\s*", value) else ""
        raise ValueError(f"{value.strip()[:40]!r} is no number{hint}")
    return float(match[1])


def is_unknown(value: str | None) -> bool:
    """Whether a value is missing, ``?`` or ``.``."""
    return value is None or value.strip() in ("", "?", ".")


class Columns:
    """The columns of one loop of a block, also where its only row is written as scalars.

    Raises
    ------
    Sorry
        A column is longer or shorter than the others.
    """

    def __init__(self, block: Any, key: str, path: str | Path, names: Sequence[str] = ()) -> None:
        self.block, self.path, self.key = block, path, key
        self.size = len(self._raw(key) or [])
        self.names = list(names)

    def words(self, *tags: str) -> list[str] | None:
        """The values of the first of these tags that the block has; None where it has none of them."""
        for tag in tags:
            values = self._raw(tag)
            if values is None:
                continue
            if len(values) != self.size:
                raise Sorry(
                    f"{self.path}: {tag} has {len(values)} values and {self.key} has {self.size}: complete them"
                )
            return values
        return None

    def numbers(self, *tags: str) -> list[float | None]:
        """The numbers of the first of these tags that the block has; None where a value, or the column, is unknown.

        Raises
        ------
        Sorry
            A value is neither a number nor unknown.
        """
        words = self.words(*tags)
        if words is None:
            return [None] * self.size
        values = []
        for n, word in enumerate(words):
            try:
                values.append(number(word))
            except ValueError as error:
                tag = next(tag for tag in tags if tag in self.block)
                name = self.names[n] if n < len(self.names) else f"in row {n + 1}"
                raise Sorry(f"{self.path}: atom {name}: {tag}: {error}: correct it, or write ? if unknown") from error
        return values

    def _raw(self, tag: str) -> list[str] | None:
        values = self.block.get(tag)
        if values is None:
            return None
        return [values] if isinstance(values, str) else list(values)
