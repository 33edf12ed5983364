"""Text and CIF input files, or one clear line for the user where they are none."""

from __future__ import annotations

import re
from pathlib import Path

import iotbx.cif
from libtbx.utils import Sorry

_END = "edtbx_end_of_file"


def read_text(path: str | Path, expected: str) -> str:
    """The text of a file, in ASCII; ``expected`` names what the file should have been.

    Other letters (names in comments) become ``?``: iotbx takes a file that has them for a binary one.

    Raises
    ------
    Sorry
        The file is missing, unreadable, empty or binary.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise Sorry(f"cannot read {path} ({error.strerror}): give the path of a {expected}") from error
    if not raw.strip():
        raise Sorry(f"{path} is empty: expected a {expected}")
    if any(byte < 9 for byte in raw):
        raise Sorry(f"{path} is a binary file: expected a {expected}")
    return raw.decode("utf-8-sig", errors="replace").encode("ascii", errors="replace").decode("ascii")


def parse_cif(text: str, path: str | Path, expected: str) -> iotbx.cif.model.cif:
    """The data blocks of a CIF.

    The parser of iotbx kills Python when the text ends in the header of a loop, so an empty block is added behind it.

    Raises
    ------
    Sorry
        The text is not a whole CIF.
    """
    if len(re.findall(r"^;", text, flags=re.MULTILINE)) % 2:
        raise Sorry(f"{path} ends inside a text field: the file is truncated, fetch the {expected} again")
    try:
        blocks = iotbx.cif.reader(input_string=f"{text}\ndata_{_END}\n").model()
    except Sorry as error:
        reason = " ".join(str(error).split())
        raise Sorry(f"{path} is not a whole {expected} ({reason}): the file is damaged, fetch it again") from error
    if _END in blocks:
        del blocks[_END]
    if not len(blocks):
        raise Sorry(f"{path} has no data block: expected a {expected}")
    return blocks
