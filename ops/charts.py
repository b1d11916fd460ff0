"""Geometry of the small SVG charts: numbers in, coordinates out; the templates draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from jobs.models import FAILURES

STRIP_RUNS = 30
_BAR, _GAP, _STRIP_HEIGHT, _LEAST = 6, 2, 32, 4
_DAY_WIDTH, _DAY_HEIGHT = 40, 96


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in the chart's own units, and its title."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    url: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing's size, its bars and labels, and the same in words."""

    width: float
    height: float
    bars: Sequence[Bar]
    labels: Sequence[tuple[float, str]] = ()
    text: str = ""


# A run as run_strip() takes it: state, seconds, title, url.
Run = tuple[str, float | None, str, str]


def as_bar(pk: int, state: str, seconds: float | None, queued: object) -> Run:
    """Return a run as run_strip() takes it."""
    took = "" if seconds is None else f", {seconds:.1f} s"
    url = reverse("admin:jobs_jobrun_change", args=[pk])
    return state, seconds, f"run {pk}: {state}{took}, {str(queued)[:16]}", url


def run_strip(runs: Sequence[Run], most: int = STRIP_RUNS) -> Chart:
    """Draw a bar for each run, oldest first, newest at the right: height is duration, colour is state."""
    longest = max([seconds or 0 for _, seconds, _, _ in runs], default=0) or 1
    bars = []
    first = most - len(runs)
    for place, (state, seconds, title, url) in enumerate(runs, start=first):
        height = _LEAST + (_STRIP_HEIGHT - _LEAST) * (seconds or 0) / longest
        bars.append(Bar(place * (_BAR + _GAP), _STRIP_HEIGHT - height, _BAR, height, state, title, url))
    failed = sum(1 for state, *_ in runs if state in FAILURES)
    text = f"the last {len(runs)} runs, {failed} of them failed" if runs else "no run yet"
    return Chart(most * (_BAR + _GAP) - _GAP, _STRIP_HEIGHT, bars, text=text)


def day_columns(days: Sequence[tuple[str, dict[str, int]]], kinds: Sequence[str]) -> Chart:
    """Draw side by side for each day one bar a kind; `days` are (label, counts by kind)."""
    highest = max((count for _, counts in days for count in counts.values()), default=0) or 1
    width = (_DAY_WIDTH - 8) / len(kinds)
    bars, labels = [], []
    for place, (label, counts) in enumerate(days):
        left = place * _DAY_WIDTH + 4
        labels.append((left + (_DAY_WIDTH - 8) / 2, label))
        for number, kind in enumerate(kinds):
            count = counts.get(kind, 0)
            height = _DAY_HEIGHT * count / highest
            title = f"{label}: {count} {kind}"
            bars.append(Bar(left + number * width, _DAY_HEIGHT - height, width - 1, height, kind, title))
    total = {kind: sum(counts.get(kind, 0) for _, counts in days) for kind in kinds}
    text = f"{len(days)} days: " + ", ".join(f"{count} {kind}" for kind, count in total.items())
    return Chart(len(days) * _DAY_WIDTH, _DAY_HEIGHT, bars, labels, text)


def cost_columns(days: Sequence[tuple[str, float, str]]) -> Chart:
    """Draw a bar for each day; `days` are (label, amount, amount in words), and a few of them get their label."""
    highest = max((amount for _, amount, _ in days), default=0) or 1
    width = _DAY_WIDTH * 14 / len(days)
    every = max(1, round(len(days) / 10))
    bars, labels = [], []
    for place, (label, amount, words) in enumerate(days):
        height = _DAY_HEIGHT * amount / highest
        bars.append(
            Bar(place * width + 1, _DAY_HEIGHT - height, max(width - 2, 1), height, "cost", f"{label}: {words}")
        )
        if (len(days) - 1 - place) % every == 0:
            labels.append((place * width + width / 2, label[5:]))
    return Chart(_DAY_WIDTH * 14, _DAY_HEIGHT, bars, labels, f"cost of {len(days)} days")


def timeline(firings: Sequence[datetime], start: datetime, end: datetime) -> list[float]:
    """Return the place of each firing on the line, in percent of its length."""
    span = (end - start).total_seconds()
    return [round((moment - start).total_seconds() / span * 100, 2) for moment in firings]
