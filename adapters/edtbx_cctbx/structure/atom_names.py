"""Labels of atoms: lists of them for messages, and unique labels."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

_SHOWN = 3
_PDB_LABEL = re.compile(r'(?:model="[^"]*" *)?pdb="([^"]*)"')


def listed(labels: Iterable[str]) -> str:
    """A list of labels for a message, such as "C1, C2, C3 and 5 more"; the pdb="..." around PDB labels is removed."""
    names = [" ".join(_PDB_LABEL.sub(r"\1", label).split()) for label in labels]
    if len(names) <= _SHOWN + 1:
        return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"


def unique_labels(labels: Sequence[str]) -> list[str]:
    """The labels, made unique by a letter or number appended to repeated ones."""
    taken, counts, chosen = set(labels), Counter[str](), []
    for label in labels:
        counts[label] += 1
        new = label
        if counts[label] > 1:
            endings = [*string.ascii_uppercase[1:], *(f"_{n}" for n in range(2, len(labels) + 2))]
            new = next(f"{label}{ending}" for ending in endings if f"{label}{ending}" not in taken)
            taken.add(new)
        chosen.append(new)
    return chosen
