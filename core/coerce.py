"""Conversion of unvalidated values to what a column can hold; None for what can't be converted."""

from __future__ import annotations

import json
import math


def text(value: object) -> str | None:
    """Return text unchanged, anything else as JSON, None as None."""
    if value is None:
        return None
    string = value if isinstance(value, str) else json.dumps(value)
    return string.encode("utf-8", "replace").decode()  # JSON can contain lone surrogates, UTF-8 can't


def number(value: object) -> float | None:
    """Return a number, or text that is one, as a finite float."""
    if not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def count(value: object) -> int:
    """Return an integer of 64 bits; 0 for anything else."""
    result = number(value)
    return int(result) if result is not None and abs(result) < 2**63 else 0
