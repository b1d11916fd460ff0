"""How things went over time: runs, tasks and tokens counted into equal steps, for sparklines and charts.

Each is one statement and is kept for a minute: what is drawn over a day does not change by the second.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.core.cache import cache
from django.db import connection

from jobs.models import FAILURES, State
from ops import queries
from tasks.models import Status, read_repos

ValueT = TypeVar("ValueT")
_KEPT_SECONDS = 60
_REPOSITORIES = 12


@dataclass(frozen=True)
class Span:
    """A time from `start` on in `count` steps of `seconds`."""

    start: datetime
    seconds: int
    count: int

    @classmethod
    def until(cls, now: datetime, *, seconds: int, count: int) -> Span:
        """Return the steps up to now; they begin at round times, so the last one is not over."""
        end = math.ceil(now.timestamp() / seconds) * seconds
        return cls(datetime.fromtimestamp(end - seconds * count, UTC), seconds, count)

    @property
    def end(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds * self.count)

    @property
    def moments(self) -> list[datetime]:
        """The beginning of each step."""
        return [self.start + timedelta(seconds=self.seconds * place) for place in range(self.count)]

    @property
    def first_second(self) -> int:
        return int(self.start.timestamp())


@dataclass(frozen=True)
class Runs:
    """Runs that ended well or failed in each step, and half and 95 % of the durations of those that ended well."""

    succeeded: list[int]
    failed: list[int]
    median: list[float | None]
    p95: list[float | None]

    @property
    def success_rate(self) -> list[float | None]:
        """Percent of each step; None where nothing ran."""
        pairs = zip(self.succeeded, self.failed, strict=True)
        return [100 * good / (good + bad) if good + bad else None for good, bad in pairs]


@dataclass(frozen=True)
class Took:
    """How many tasks of a kind were completed, and how long an agent worked on them, in seconds."""

    name: str
    count: int
    median: float
    p95: float


@dataclass(frozen=True)
class Tasks:
    """At the end of each step: tasks that waited, the age of the oldest, agents at work; and what was done in it."""

    queued: list[int]
    oldest_seconds: list[float | None]
    agents: list[int]
    completed: list[int]
    failed: list[int]
    by_type: list[Took] = field(default_factory=list)
    by_repository: list[Took] = field(default_factory=list)


def runs(span: Span, job_id: int | None = None) -> Runs:
    return _kept(f"runs.{job_id}", span, lambda: _count_runs(span, job_id))


def tasks(span: Span) -> Tasks:
    return _kept("tasks", span, lambda: _count_tasks(span))


def tokens(span: Span) -> list[int]:
    """Count the tokens that were handed out in each step."""

    def count() -> list[int]:
        counts = dict(queries.tokens_by_step(span.start, span.seconds))
        return [counts.get(place, 0) for place in range(span.count)]

    return _kept("tokens", span, count)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which that share of the sorted values lies; None without values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def _count_runs(span: Span, job_id: int | None) -> Runs:
    succeeded, failed = [0] * span.count, [0] * span.count
    durations: list[list[tuple[float, int]]] = [[] for _ in range(span.count)]
    for place, state, seconds, count in queries.runs_by_step(span.start, span.seconds, span.count, job_id):
        if state == State.SUCCESS:
            succeeded[place] += count
            durations[place].append((seconds or 0, count))
        elif state in FAILURES:
            failed[place] += count
    sorted_durations = [sorted(each) for each in durations]
    half = [_weighted(each, 0.5) for each in sorted_durations]
    most = [_weighted(each, 0.95) for each in sorted_durations]
    return Runs(succeeded, failed, half, most)


def _weighted(values: Sequence[tuple[float, int]], share: float) -> float | None:
    """Return the percentile of values that each occur some times."""
    rest = share * sum(count for _, count in values)
    for value, count in values:
        rest -= count
        if rest <= 0:
            return value
    return None


def _count_tasks(span: Span) -> Tasks:
    first, step = span.first_second, span.seconds
    queued, completed, failed = [0] * span.count, [0] * span.count, [0] * span.count
    oldest: list[float | None] = [None] * span.count
    agents: list[set[str]] = [set() for _ in range(span.count)]
    took: dict[str, list[float]] = defaultdict(list)
    took_of: dict[str, list[float]] = defaultdict(list)

    def steps(begin: float | None, end: float | None) -> range:
        """Return the steps at whose end a time from begin to end goes on."""
        if begin is None:
            return range(0)
        last = span.count if end is None else math.ceil((end - first) / step) - 1
        return range(max(0, int(begin - first) // step), min(span.count, last))

    for row in queries.task_times(span.start):
        for place in steps(row.queued, row.left_queue):
            queued[place] += 1
            age = max(0.0, min(first + step * (place + 1), row.now) - (row.queued or 0))
            oldest[place] = max(age, oldest[place] or 0)
        if row.assigned is not None and row.agent:
            last = ((row.now if row.ended is None else row.ended) - first) // step
            for place in range(max(0, (row.assigned - first) // step), min(span.count, last + 1)):
                agents[place].add(row.agent)
        if row.ended is None or row.ended < first:
            continue
        place = min(span.count - 1, (row.ended - first) // step)
        if row.status == Status.FAILED:
            failed[place] += 1
        elif row.status == Status.COMPLETED:
            completed[place] += 1
            if row.assigned is not None and row.assigned <= row.ended:
                took[row.type or "–"].append(row.ended - row.assigned)
                for name in read_repos(row.repos) or ("none",):
                    took_of[name].append(row.ended - row.assigned)
    counts = [len(each) for each in agents]
    return Tasks(queued, oldest, counts, completed, failed, _summed(took), _summed(took_of)[:_REPOSITORIES])


def _summed(by_name: dict[str, list[float]]) -> list[Took]:
    """Return the names, those with most tasks first."""
    rows = []
    for name, values in by_name.items():
        values.sort()
        rows.append(Took(name, len(values), percentile(values, 0.5) or 0, percentile(values, 0.95) or 0))
    return sorted(rows, key=lambda row: -row.count)


def _kept(name: str, span: Span, count: Callable[[], ValueT]) -> ValueT:
    key = f"ops.trends.{connection.settings_dict['NAME']}.{name}.{span.first_second}.{span.seconds}.{span.count}"
    value: Any = cache.get(key)
    if value is None:
        value = count()
        cache.set(key, value, _KEPT_SECONDS)
    result: ValueT = value
    return result
