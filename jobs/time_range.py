"""Ranges of time as people name them: `last-night`, `24h`, or from a time until another; all in UTC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.errors import Invalid
from core.timestamps import parse

_AGE = re.compile(r"(\d{1,6})\s*(min|m|h|d)", re.ASCII)
_UNITS = {"m": "minutes", "min": "minutes", "h": "hours", "d": "days"}
LAST_NIGHT = "last-night"
# What the address calls each, and its label.
PRESETS = ((LAST_NIGHT, "Last night"), ("24h", "24 h"), ("7d", "7 days"), ("30d", "30 days"))
_NIGHT_BEGINS, _NIGHT_ENDS = 20, 8  # o'clock


@dataclass(frozen=True)
class TimeRange:
    """From `since` on, before `until`; None where it has no such bound. `name` is the preset's."""

    since: datetime | None = None
    until: datetime | None = None
    name: str = ""


def moment(text: str | None, name: str, now: datetime) -> datetime | None:
    """Return a time, `2026-02-16T22:00`, or an age, `24h`; None for nothing. Raises Invalid."""
    if not text:
        return None
    age = _AGE.fullmatch(text.strip())
    try:
        time = now - timedelta(**{_UNITS[age[2]]: int(age[1])}) if age else parse(text.strip())
    except OverflowError:
        time = None
    if time is None:
        raise Invalid(f"{name} must be a time such as 2026-02-16T22:00 (UTC), or an age such as 24h or 7d")
    return time


def read(parameters: Mapping[str, str], now: datetime, default: str = "") -> TimeRange:
    """Return the range that `range`, or `since` and `until`, name; raises Invalid."""
    since, until = (moment(parameters.get(name), name, now) for name in ("since", "until"))
    if since or until:
        return TimeRange(since, until)
    name = parameters.get("range", "") or default
    if name == LAST_NIGHT:
        end = now.replace(hour=_NIGHT_ENDS, minute=0, second=0, microsecond=0)
        begin = end - timedelta(hours=24 - _NIGHT_BEGINS + _NIGHT_ENDS)
        if begin > now:
            begin, end = begin - timedelta(days=1), end - timedelta(days=1)
        return TimeRange(begin, end, name)
    if name in dict(PRESETS):
        return TimeRange(moment(name, "range", now), None, name)
    return TimeRange(name="all" if name == "all" else "")
