"""Geometry of the small SVG charts: numbers in, coordinates out; the templates draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from urllib.parse import urlencode

from django.urls import reverse

from core.display import duration
from core.timestamps import seconds_text
from jobs.models import FAILURES, State

AXIS_WIDTH = 1000
LEAST_BLOCK = 6
_MERGE_SECONDS, _MERGE_FAILURES_SECONDS = 1860, 240  # runs of half an hour apart are one block
_MERGE_COARSELY_SECONDS = 7260
_MOST_TICKS = 60
SPARK_WIDTH, SPARK_HEIGHT = 100, 30
PLOT_WIDTH, PLOT_HEIGHT = 600, 160
_NICE_SECONDS = (0.1, 0.2, 1, 2, 4, 10, 20, 40, 60, 120, 240, 600, 1200, 2400, 3600, 7200, 14400, 28800, 57600, 86400)


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in the chart's own units."""

    x: float
    y: float
    width: float
    height: float
    kind: str


# --- the time axis of the overview
@dataclass(frozen=True)
class PastRun:
    """A run as blocks() takes it; one that goes on ends now."""

    pk: int
    state: str
    begin: datetime
    end: datetime
    exit_code: int | None = None


@dataclass(frozen=True)
class Block:
    """A run on the time axis, or several of one kind with little between them; `url` leads to them."""

    x: int
    width: int
    state: str
    title: str
    url: str


@dataclass(frozen=True)
class Ticks:
    """Firings to come, as an SVG path; a band where there are too many to tell apart."""

    path: str
    count: int
    band: tuple[int, int] | None = None


@dataclass(frozen=True)
class Axis:
    """The hours of the time axis, with their places in percent, and the place of now."""

    hours: list[tuple[float, datetime]]
    now: float


def axis(now: datetime, past: timedelta, ahead: timedelta) -> Axis:
    """Return every third full hour, but for one that is too near to now to be written beside it."""
    start, length = now - past, (past + ahead).total_seconds()
    first = start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=3 - start.hour % 3)
    hours = [first + timedelta(hours=3 * place) for place in range(int(length // 10800) + 1)]
    places = [(round(100 * (hour - start).total_seconds() / length, 1), hour) for hour in hours]
    here = round(100 * past.total_seconds() / length, 1)
    return Axis([(place, hour) for place, hour in places if place < 98 and abs(place - here) > 12], here)


def blocks(
    runs: Sequence[PastRun], now: datetime, past: timedelta, ahead: timedelta, url: str, *, coarse: bool = False
) -> list[Block]:
    """Merge runs of one kind that follow closely; a failure lies over the successes around it.

    With `coarse`, successes up to two hours apart are one block.
    """
    start = now - past
    unit = AXIS_WIDTH / (past + ahead).total_seconds()
    kinds: dict[str, list[list[PastRun]]] = {}
    for run in sorted(runs, key=lambda run: run.begin):
        kind = "failed" if run.state in FAILURES else run.state
        merge_seconds = _MERGE_COARSELY_SECONDS if coarse else _MERGE_SECONDS
        gap = merge_seconds if kind == State.SUCCESS else _MERGE_FAILURES_SECONDS
        groups = kinds.setdefault(kind, [])
        if groups and (run.begin - groups[-1][-1].end).total_seconds() < gap:
            groups[-1].append(run)
        else:
            groups.append([run])
    before, _, after = reverse("admin:jobs_jobrun_change", args=[0]).rpartition("0")
    drawn = []
    for kind in sorted(kinds, key=lambda kind: kind != State.SUCCESS):
        for group in kinds[kind]:
            begin, end = group[0].begin, max(run.end for run in group)
            x = max(0, round((begin - start).total_seconds() * unit))
            width = max(LEAST_BLOCK, round((end - start).total_seconds() * unit) - x)
            target = f"{before}{group[0].pk}{after}" if len(group) == 1 else _url(group, url)
            drawn.append(Block(x, width, kind, _title(group), target))
    return drawn


def ticks(moments: Sequence[datetime], now: datetime, past: timedelta, ahead: timedelta) -> Ticks:
    unit = AXIS_WIDTH / (past + ahead).total_seconds()
    places = [round((moment - now + past).total_seconds() * unit) for moment in moments]
    if len(places) > _MOST_TICKS:
        return Ticks("", len(places), (places[0], places[-1] - places[0]))
    return Ticks("".join(f"M{place} 6v8" for place in places), len(places))


def _title(group: Sequence[PastRun]) -> str:
    first, last = group[0], group[-1]
    if len(group) == 1:
        code = f", exit {first.exit_code}" if first.exit_code else ""
        took = duration((first.end - first.begin).total_seconds())
        return f"{first.begin:%H:%M} {first.state}{code}, {took}"
    return f"{len(group)} runs: {first.state}, {first.begin:%H:%M} to {last.end:%H:%M}"


def _url(group: Sequence[PastRun], url: str) -> str:
    """Return where the list of runs shows these."""
    times = {"since": seconds_text(group[0].begin - timedelta(seconds=2)), "until": seconds_text(group[-1].end)}
    return f"{url}&{urlencode(times)}"


# --- sparklines and plots
@dataclass(frozen=True)
class Spark:
    """A line without axes, and the same in words."""

    line: str
    text: str


def spark(values: Sequence[int], what: str) -> Spark:
    """Draw values of equal steps, the newest at the right, from zero on."""
    highest = max(values, default=0) or 1
    step = SPARK_WIDTH / max(1, len(values) - 1)
    points = [(round(place * step), round(29 - 28 * value / highest)) for place, value in enumerate(values)]
    line = "M" + "L".join(f"{x} {y}" for x, y in points)
    newest = values[-1] if values else 0
    text = f"{what} in the last 24 hours: at most {max(values, default=0)}, now {newest}"
    return Spark(line, text)


@dataclass(frozen=True)
class Series:
    """A line of a plot: its name, the values of the steps (None: nothing there), and how one is written."""

    name: str
    values: Sequence[float | None]
    kind: str = "a"


@dataclass(frozen=True)
class Line:
    """A series as drawn: pieces of path, without those steps that have no value, and lone points."""

    name: str
    kind: str
    path: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Step:
    """A step of a plot: where it lies, and its values in words, for hover and for the table behind the plot."""

    x: float
    width: float
    moment: datetime
    title: str
    values: Sequence[str]


@dataclass(frozen=True)
class Plot:
    """Lines or bars over time with a scale at the left."""

    title: str
    names: Sequence[tuple[str, str]]
    lines: Sequence[Line]
    bars: Sequence[Bar]
    steps: Sequence[Step]
    scale: Sequence[tuple[float, str]]
    labels: Sequence[tuple[float, str]]
    is_empty: bool

    width = PLOT_WIDTH
    height = PLOT_HEIGHT


Write = Callable[[float], str]


def plot(
    title: str,
    moments: Sequence[datetime],
    series: Sequence[Series],
    *,
    write: Write = lambda value: f"{value:.0f}",
    as_bars: bool = False,
    highest: float | None = None,
) -> Plot:
    """Draw series of equal steps over each other, from zero on; bars are stacked."""
    count = max(1, len(moments))
    width = PLOT_WIDTH / count
    rows = [[each.values[place] for each in series] for place in range(len(moments))]
    sums = [
        sum(value or 0 for value in row) if as_bars else max((value or 0 for value in row), default=0) for row in rows
    ]
    top = highest or _round_up(max(sums, default=0), _NICE_SECONDS if write is duration else ())
    by_day = len(moments) > 1 and (moments[-1] - moments[0]) > timedelta(hours=48)
    steps = []
    for place, (moment, row) in enumerate(zip(moments, rows, strict=True)):
        words = ["–" if value is None else write(value) for value in row]
        listed = ", ".join(f"{each.name} {word}" for each, word in zip(series, words, strict=True))
        steps.append(
            Step(round(place * width, 1), round(width, 1), moment, f"{moment:%a %d %b %H:%M}: {listed}", words)
        )
    every = max(1, math.ceil(count / 8))
    labels = [
        (round((place + 0.5) * width / PLOT_WIDTH * 100, 1), f"{moment:%d %b}" if by_day else f"{moment:%H:%M}")
        for place, moment in enumerate(moments)
        if place % every == every // 2
    ]
    return Plot(
        title=title,
        names=[(each.name, each.kind) for each in series],
        lines=[] if as_bars else [_line(each, width, top) for each in series],
        bars=_stack(series, rows, width, top) if as_bars else [],
        steps=steps,
        scale=[(0.0, write(top)), (50.0, write(top / 2)), (100.0, "0")],
        labels=labels,
        is_empty=not any(value for row in rows for value in row),
    )


def _line(series: Series, width: float, top: float) -> Line:
    points = [
        None
        if value is None
        else (round((place + 0.5) * width, 1), round(PLOT_HEIGHT * (1 - min(value, top) / top), 1))
        for place, value in enumerate(series.values)
    ]
    path = ""
    for before, point in pairwise([None, *points]):
        if point is not None:
            path += f"{'L' if before else 'M'}{point[0]} {point[1]}"
    around = [None, *points, None]
    lone = [
        point
        for before, point, after in zip(around, around[1:], around[2:], strict=False)
        if point and not before and not after
    ]
    return Line(series.name, series.kind, path, lone)


def _stack(series: Sequence[Series], rows: Sequence[Sequence[float | None]], width: float, top: float) -> list[Bar]:
    bars = []
    for place, row in enumerate(rows):
        y = float(PLOT_HEIGHT)
        for each, value in zip(series, row, strict=True):
            if value:
                height = PLOT_HEIGHT * value / top
                y -= height
                bars.append(
                    Bar(
                        round(place * width + 1, 1),
                        round(y, 1),
                        round(max(1, width - 2), 1),
                        round(height, 1),
                        each.kind,
                    )
                )
    return bars


def _round_up(value: float, nice: Sequence[float] = ()) -> float:
    """Return the next number that is easily read on a scale: 2, 4, 6, 8 or 10 times a power of ten, or a nice one."""
    if value <= 2 and not nice:
        return 2
    if fitting := [each for each in nice if each >= value]:
        return fitting[0]
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= value)
