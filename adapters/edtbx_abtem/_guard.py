"""Stop with one clear message where abTEM is missing, or older than the corrections of its physics."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

_LEAST = (1, 0, 11)
"""Until 1.0.10 the surface terms of its Bloch waves were wrong, and the potential that it sums from structure factors
had the other hand."""


def require_abtem() -> None:
    """Nothing, where a version of abTEM is installed that can be trusted.

    Raises
    ------
    ImportError
        abTEM is missing or too old; the message names the extra.
    """
    least = ".".join(map(str, _LEAST))
    remedy = "python -m pip install 'edtbx[abtem]'"
    try:
        found = version("abtem")
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"it needs abTEM {least} or later, which is not installed here: {remedy}", name="abtem"
        ) from error
    if tuple(int(part) for part in re.findall(r"\d+", found)[:3]) < _LEAST:
        raise ImportError(f"it needs abTEM {least} or later, got {found}: {remedy}", name="abtem")


require_abtem()
