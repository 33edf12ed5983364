"""Names similar to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_TIE = 0.05
"""Names that are less like the one given than the likest by more than this are not named beside it."""


def nearest(name: str, names: Sequence[str], cutoff: float = 0.6) -> list[str]:
    """The most similar names, at most three, regardless of case."""
    sought = name[:200].lower()
    likeness = {known: difflib.SequenceMatcher(None, sought, known.lower()).ratio() for known in names}
    near = sorted((known for known in likeness if likeness[known] >= cutoff), key=lambda known: -likeness[known])[:3]
    return [known for known in near if likeness[known] >= likeness[near[0]] - _TIE]


def or_else(name: str, near: Sequence[str]) -> str:
    """``": did you mean x?"``, or nothing where nothing is near."""
    suggestions = [candidate for candidate in near if candidate != name][:3]
    return f": did you mean {' or '.join(suggestions)}?" if suggestions else ""
