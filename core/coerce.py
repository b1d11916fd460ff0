"""Values of files that nobody validated, made to fit a column; what can't be read becomes None."""

from __future__ import annotations

import json
import math


def text(value: object) -> str | None:
    """Text as it is; anything else as its JSON; None stays None."""
    if value is None:
        return None
    kept = value if isinstance(value, str) else json.dumps(value)
    return kept.encode("utf-8", "replace").decode()  # a lone surrogate, which JSON can spell, is not UTF-8


def number(value: object) -> float | None:
    """A finite number, or the text of one."""
    if not isinstance(value, int | float | str):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


def count(value: object) -> int:
    """A whole number of 64 bits; 0 for what is none."""
    read = number(value)
    return int(read) if read is not None and abs(read) < 2**63 else 0
