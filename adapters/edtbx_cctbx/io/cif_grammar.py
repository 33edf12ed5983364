"""Check of the grammar of a CIF, with the line of an error, and removal of repeated names."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from libtbx.utils import Sorry

from edtbx_cctbx.io.cif_values import all_equal, decimals, equal

_TOKENS = re.compile(
    r"""
    (?<=\n);[^\n]*(?:\n(?!;)[^\n]*)*\n;                  # a text field
    | (?<=\n);[\s\S]*                                    # one that is not closed
    | '[^'\n]*(?:'(?=\S)[^'\n]*)*'(?!\S)                 # a value in quotes, which end it only before a space
    | "[^"\n]*(?:"(?=\S)[^"\n]*)*"(?!\S)
    | \#[^\n]*
    | \S+
    """,
    re.VERBOSE,
)
_KEYWORD = re.compile(r"(data_|save_)\S*|(loop_|global_|stop_)", re.IGNORECASE)
_TRUNCATED = "the file is truncated: fetch it again"


@dataclass(slots=True)
class _Block:
    """Names of a data block or save frame: the token of a scalar's tag, or the columns of a loop."""

    scalars: dict[str, int] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


class _Check:
    """One walk over the tokens of a text; ``removed`` are those of names that only repeat what was said before."""

    def __init__(self, text: str, path: str | Path, expected: str) -> None:
        self.text, self.path, self.expected = f"\n{text}\n", path, expected
        self.tokens = [token for token in _TOKENS.findall(self.text) if token[0] != "#"]
        self.removed: list[tuple[int, int]] = []
        self.renamed: dict[int, str] = {}

    def run(self) -> str:
        """The text, without what is said twice.

        Raises
        ------
        Sorry
            The grammar is broken, or a name has two values.
        """
        self._check_words()
        names: dict[str, int] = {}
        block, outer, place = None, None, 0
        while place < len(self.tokens):
            token = self.tokens[place]
            word = token.lower()
            if word.startswith("data_"):
                self._name(place, names)
                block, outer, place = _Block(), None, place + 1
            elif block is None:
                raise self._wrong(place, f"{_short(token)} stands before any data block: begin it with data_NAME")
            elif word.startswith("save_"):
                if (word == "save_") is (outer is None):
                    raise self._wrong(place, f"{token} does not open or close a save frame: correct or remove it")
                block, outer, place = (outer, None, place + 1) if outer else (_Block(), block, place + 1)
            elif word == "loop_":
                place = self._loop(place, block)
            elif token[0] == "_":
                place = self._scalar(place, block)
            elif word in ("global_", "stop_"):
                raise self._wrong(place, f"{token} is no word of CIF: remove it")
            else:
                raise self._wrong(
                    place, f"the value {_short(token)} belongs to no name: a value with spaces needs quotes around it"
                )
        if outer is not None:
            raise Sorry(f"{self.path} ends inside a save frame: {_TRUNCATED}")
        return self._mended()

    def _check_words(self) -> None:
        """Quotes, text fields, and words that must not stand without quotes."""
        for place, token in enumerate(self.tokens):
            first = token[0]
            if first in "'\"" and (len(token) < 2 or token[-1] != first):
                raise self._wrong(
                    place,
                    f"a quote is not closed ({_short(self._line_text(place))}): close it, or put a value that begins with "
                    f"{first} between {_other(first)} and {_other(first)}",
                )
            if first == ";" and "\n" in token and not token.endswith("\n;"):
                raise self._wrong(
                    place,
                    "the text field that begins here is not closed: close it with a line that begins with ;, or, if the "
                    "file is truncated, fetch it again",
                )
            if token == "_":
                raise self._wrong(place, "_ alone is no name: complete it, or put quotes around it where it is a value")
            if first in "[]$":
                raise self._wrong(place, f"{_short(token)} must not begin with {first}: put quotes around it")

    def _name(self, place: int, names: dict[str, int]) -> None:
        name = self.tokens[place][5:]
        if not name:
            raise self._wrong(place, "the data block has no name: write data_ and a name, without a space")
        new, n = name, 1
        while new in names:
            n += 1
            new = f"{name}_{n}"
        names[new] = place
        if new != name:
            self.renamed[place] = f"data_{new}"

    def _scalar(self, place: int, block: _Block) -> int:
        tag = self.tokens[place].lower()
        if place + 1 == len(self.tokens):
            raise self._wrong(place, f"{tag} has no value, and the file ends: {_TRUNCATED}")
        value = self.tokens[place + 1]
        if _is_word(value):
            raise self._wrong(place, f"{self.tokens[place]} has no value: write ? for an unknown one")
        if tag in block.scalars:
            self._second_scalar(place, block)
        elif tag in block.columns:
            if not all(equal(value, other) for other in block.columns[tag]):
                raise self._twice(block.lines[tag], place)
            self.removed.append((place, place + 2))
        else:
            block.scalars[tag] = place
        return place + 2

    def _second_scalar(self, place: int, block: _Block) -> None:
        """Drop the one of two scalars that says nothing more."""
        tag = self.tokens[place].lower()
        first = block.scalars[tag]
        first_value, second_value = self.tokens[first + 1], self.tokens[place + 1]
        if not (first_value in "?." or second_value in "?." or equal(first_value, second_value)):
            raise self._twice(first, place)
        if second_value in "?." or (first_value not in "?." and decimals(first_value) >= decimals(second_value)):
            self.removed.append((place, place + 2))
        else:
            self.removed.append((first, first + 2))
            block.scalars[tag] = place

    def _loop(self, place: int, block: _Block) -> int:
        """Index of the token after a loop."""
        start, end = place + 1, place + 1
        tokens = self.tokens
        while end < len(tokens) and tokens[end][0] == "_":
            end += 1
        tags, first = [tag.lower() for tag in tokens[start:end]], end
        if not tags:
            raise self._wrong(place, "the loop has no names (words that begin with _) before its values: add them")
        while end < len(tokens) and not _is_word(tokens[end]):
            end += 1
        if end == first and end == len(tokens):
            raise Sorry(f"{self.path} is not a whole {self.expected}: it ends in the header of a loop: {_TRUNCATED}")
        if (end - first) % len(tags):
            raise self._incomplete(place, first, end, len(tags))
        if end == first:
            self.removed.append((place, end))
            return end
        columns: dict[str, tuple[str, ...]] = {}
        for n, tag in enumerate(tags):
            column = tuple(tokens[first + n : end : len(tags)])
            if tag in columns and not all_equal(columns[tag], column):
                raise self._wrong(
                    place, f"the loop has two columns {tag} that differ ({_short(column[0])} ...): remove one of them"
                )
            columns[tag] = column
        self._register(place, end, columns, block)
        return end

    def _register(self, place: int, end: int, columns: dict[str, tuple[str, ...]], block: _Block) -> None:
        known = [tag for tag in columns if tag in block.columns or tag in block.scalars]
        for tag in known:
            if tag in block.scalars:
                first = block.scalars[tag]
                if not all(equal(self.tokens[first + 1], value) for value in columns[tag]):
                    raise self._twice(first, place + 1 + list(columns).index(tag))
                self.removed.append((first, first + 2))
                del block.scalars[tag]
            elif not all_equal(block.columns[tag], columns[tag]):
                raise self._wrong(
                    place,
                    f"this loop gives {tag} again, and other values than the loop of line "
                    f"{self._line(block.lines[tag])}: remove one of them",
                )
        repeated = [tag for tag in known if tag in block.columns]
        if repeated and len(repeated) == len(columns):
            self.removed.append((place, end))
        elif repeated:
            raise self._wrong(
                place,
                f"this loop gives {repeated[0]} again (first in line {self._line(block.lines[repeated[0]])}): join them",
            )
        else:
            block.columns.update(columns)
            block.lines.update(dict.fromkeys(columns, place))

    def _incomplete(self, place: int, first: int, end: int, width: int) -> Sorry:
        """What to say of a loop whose last row is not whole, with the first line that has another number of values."""
        at_end = end == len(self.tokens)
        ends = [match.start() for match in re.finditer("\n", self.text)]
        lines = [bisect_left(ends, position) for n, position in enumerate(self._starts()) if first <= n < end]
        counts = Counter(lines)
        odd = [line for line in dict.fromkeys(lines) if counts[line] != width]
        said = f"the loop of {width} columns in line {self._line(place)} has {end - first} values, which fill no whole rows"
        if not odd or sum(n == width for n in counts.values()) < len(odd):
            return Sorry(f"{self.path} is not a whole {self.expected}: {said}: complete the rows")
        line = odd[0]
        where = f"line {line} has {counts[line]} ({_short(self._text_of(line))})"
        cause = (
            _TRUNCATED
            if at_end and line == lines[-1] and counts[line] < width
            else "complete the row, and put quotes around values with spaces"
        )
        return Sorry(f"{self.path} is not a whole {self.expected}: {said}; {where}: {cause}")

    def _twice(self, first: int, second: int) -> Sorry:
        earlier, later = (
            f"line {self._line(n)} ({_short(self._text_of(self._line(n)))})" for n in sorted((first, second))
        )
        return Sorry(f"{self.path}: {earlier} and {later} give different values for one name: remove one of them")

    def _wrong(self, place: int, reason: str) -> Sorry:
        return Sorry(f"{self.path}, line {self._line(place)}: {reason}")

    def _starts(self) -> Iterator[int]:
        return (match.start() for match in _TOKENS.finditer(self.text) if match[0][0] != "#")

    def _position(self, place: int) -> int:
        return next(position for n, position in enumerate(self._starts()) if n == place)

    def _line(self, place: int) -> int:
        return self.text.count("\n", 0, self._position(place))

    def _text_of(self, line: int) -> str:
        return self.text.split("\n")[line].strip()

    def _line_text(self, place: int) -> str:
        return self._text_of(self._line(place))

    def _mended(self) -> str:
        """The text with removed tokens blank, and their line ends in place."""
        if not self.removed and not self.renamed:
            return self.text[1:-1]
        gone = {n for start, end in self.removed for n in range(start, end)}
        parts, last = [], 0
        for n, position in enumerate(self._starts()):
            if n in gone or n in self.renamed:
                parts.append(self.text[last:position])
                parts.append(self.renamed.get(n, "") if n not in gone else "\n" * self.tokens[n].count("\n"))
                last = position + len(self.tokens[n])
        parts.append(self.text[last:])
        return "".join(parts)[1:-1]


def checked_cif(text: str, path: str | Path, expected: str) -> str:
    """A text that keeps the grammar of CIF and names nothing twice: the one given but for values repeated, and empty loops.

    A name given again with an equal value (the text, or a number to the digits given) is dropped; the number with more
    digits stays, and of ``?`` and a value the value. Of data blocks of one name, the second is called NAME_2, and so on.

    Raises
    ------
    Sorry
        The grammar is broken, or a name has two values: with the line.
    """
    return _Check(text, path, expected).run()


def _is_word(token: str) -> bool:
    """Whether a token is a name or a keyword, and no value."""
    return token[0] == "_" or (token[0] in "dDsSlLgG" and _KEYWORD.fullmatch(token) is not None)


def _other(quote: str) -> str:
    return '"' if quote == "'" else "'"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
