"""Figures as files."""

from __future__ import annotations

import io
import warnings

from matplotlib.figure import Figure

_DPI = 150


def as_png(figure: Figure) -> bytes:
    """The picture as a PNG of 150 pixels an inch; a letter that no font has, in the name of a file, becomes a box."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
