"""Reading of text and CIF input files, with errors of one line for the user."""

from __future__ import annotations

import os
import re
from pathlib import Path

import iotbx.cif
from libtbx.utils import Sorry

from edtbx_cctbx.io.cif_grammar import checked_cif

_END = "edtbx_end_of_file"
_NO_TEXT = {
    b"\x1f\x8b": "compressed by gzip: decompress it first (gunzip)",
    b"PK\x03\x04": "a zip archive: unpack it first (unzip)",
    b"BZh": "compressed by bzip2: decompress it first (bunzip2)",
    b"\xfd7zXZ": "compressed by xz: decompress it first (unxz)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it first (unzstd)",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "a picture (PNG)",
    b"MTZ ": "an MTZ file of reflections",
}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TYPOGRAPHIC = str.maketrans(
    {"\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-"}
    | {"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\ufeff": " ", "\x0b": " ", "\x0c": " ", "\x1a": " "}
)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_LFS_POINTER = "version https://git-lfs.github.com/spec/"


def read_text(path: str | Path, expected: str) -> str:
    """The text of a file, in ASCII, with lines that end in a line feed; ``expected`` names what the file should have been.

    Dashes and spaces of typesetting become those of ASCII, other letters (names in comments) ``?``: iotbx takes a
    file that has them for a binary one.

    Raises
    ------
    Sorry
        The file is missing, unreadable, empty, binary or compressed, a Git LFS pointer or a web page.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"expected the path of a {expected}, got {type(path).__name__}")
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise Sorry(f"cannot read {path} ({error.strerror}): give the path of a {expected}") from error
    except ValueError as error:
        raise Sorry(f"cannot read {str(path)!r} ({error}): give the path of a {expected}") from error
    for start, kind in _NO_TEXT.items():
        if raw.startswith(start):
            raise Sorry(f"{path} is {kind}; expected a {expected}")
    text = raw.decode(_encoding(raw), errors="replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_TYPOGRAPHIC)
    if not text.strip():
        raise Sorry(f"{path} is empty: expected a {expected}")
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        if line == 1 or len(_CONTROL.findall(text)) > len(text) // 10:
            raise Sorry(f"{path} is a binary file: expected a {expected}")
        raise Sorry(f"{path} is damaged (byte {ord(control[0])} in line {line}): fetch the {expected} again")
    if text.startswith(_LFS_POINTER):
        raise Sorry(f"{path} is a Git LFS pointer, not the file itself: fetch that with git lfs pull")
    if re.match(r"\s*<(!doctype|!--|html|head|body|\?xml)", text, flags=re.IGNORECASE):
        raise Sorry(f"{path} is a web page (HTML or XML), not a {expected}: download the file itself")
    return text.encode("ascii", errors="replace").decode("ascii")


def _encoding(raw: bytes) -> str:
    """UTF-16 with its mark, or where every other byte is zero; UTF-8 otherwise."""
    start = raw[:1000]
    if raw.startswith(_UTF_16):
        return "utf-16"
    if start[1::2].count(0) > len(start) // 3:
        return "utf-16-le"
    return "utf-16-be" if start[0::2].count(0) > len(start) // 3 else "utf-8-sig"


def parse_cif(text: str, path: str | Path, expected: str) -> iotbx.cif.model.cif:
    """The data blocks of a CIF.

    The parser of iotbx says little of what is wrong, refuses a name that is repeated with the same value, and kills Python
    at a loop without names or values; so the grammar is checked before (:func:`edtbx_cctbx.io.cif_grammar.checked_cif`).

    Raises
    ------
    Sorry
        The text is no CIF, or gives a name two values.
    """
    whole = checked_cif(text, path, expected)
    try:
        blocks = iotbx.cif.reader(input_string=f"{whole}\ndata_{_END}\n").model()
    except (Sorry, RuntimeError) as error:
        raise Sorry(f"{path}{_said_by_parser(str(error), whole)}: correct the file, or export it again") from error
    except (LookupError, ValueError, AssertionError, AttributeError, TypeError) as error:
        raise Sorry(
            f"{path} cannot be read as CIF: names of a loop do not belong together: correct the file, or export it again"
        ) from error
    if _END in blocks:
        del blocks[_END]
    if not len(blocks):
        raise Sorry(f"{path} has no data block: expected a {expected}")
    return blocks


def _said_by_parser(message: str, text: str) -> str:
    """What the parser of iotbx could not read, by line; its own words are about the parser, not about the file."""
    lines = text.split("\n")
    place = re.search(r"\(line (\d+)\)", message)
    number = int(place[1]) if place else 0
    if not 1 <= number <= len(lines):
        return f" cannot be read as CIF ({' '.join(message.split())[:80]})"
    said = lines[number - 1].strip()
    return f", line {number}: {said[:60]}{'...' if len(said) > 60 else ''} is no CIF"
