"""Exponential back-off."""

from __future__ import annotations


def delay(attempt: int, first: float, most: float) -> float:
    """Return the seconds to wait after a failed attempt: `first` after attempt 0, doubled each time, at most `most`."""
    return min(most, first * 2.0 ** min(attempt, 30))  # beyond 30 every `most` is reached, and no number grows huge
