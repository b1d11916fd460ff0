"""The overview of a job: how its runs went, what it prints now, why it failed last, when it runs next."""

from __future__ import annotations

import zoneinfo
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count
from django.db.models.functions import TruncDate
from django.http import HttpRequest
from django.urls import reverse

from core.display import duration
from core.errors import Invalid
from core.timestamps import utc_now
from jobs import queries, services
from jobs.execution import ansi, output, queue_reasons
from jobs.models import FAILURES, Job, JobRun, JobState, State
from jobs.scheduling import cron

_RUNS_DRAWN, _RUNS_LISTED, _RUNS_COUNTED = 60, 10, 100
_FIRINGS, _DAYS = 5, 14
_TAIL_BYTES, _TAIL_LINES = 8192, 20
_COUNTED = (State.SUCCESS, *FAILURES)
_HEIGHT, _LEAST, _STEP, _BAR = 80, 3, 10, 8


@dataclass(frozen=True)
class Bar:
    """A bar of a chart in the chart's own units: its title in words, and where it leads."""

    x: float
    y: float
    height: float
    kind: str
    title: str
    url: str = ""


@dataclass(frozen=True)
class Firing:
    """A firing of the schedule, as a clock in the job's time zone shows it, and in UTC."""

    local: str
    utc: datetime


def context(request: HttpRequest, job: Job) -> dict[str, Any]:
    """Return the overview's parts, all of which refresh in place."""
    newest = list(JobRun.objects.filter(job=job).defer("definition").order_by("-id")[:_RUNS_COUNTED])
    for run in newest:
        run.job = job
    active = next((run for run in newest if run.is_active), None)
    running = next((run for run in newest if run.state == State.RUNNING), None)
    over = [run for run in newest if run.state in _COUNTED]
    last_over = next((run for run in newest if not run.is_active and run.state != State.SKIPPED), None)
    listed = newest[:_RUNS_LISTED]
    waits_for = queue_reasons.for_runs({*listed, *([active] if active else [])})
    seconds = sorted(run.duration for run in over if run.duration is not None)
    printing = running or last_over
    return {
        "job": job,
        "state": JobState.objects.filter(name=job.name).first() or JobState(name=job.name),
        "may_change": request.user.has_perm("jobs.change_job"),
        "pause": services.pause(),
        "hold": queries.hold(),
        "active": active,
        "active_waits_for": waits_for.get(active.pk) if active else None,
        "last": last_over,
        "failing": last_over if last_over and last_over.state in FAILURES else None,
        "last_failure": next((run for run in newest if run.state in FAILURES), None),
        "runs": [(run, waits_for.get(run.pk)) for run in listed],
        "counted": len(over),
        "rate": round(100 * sum(run.state == State.SUCCESS for run in over) / len(over)) if over else None,
        "median": _percentile(seconds, 50),
        "p95": _percentile(seconds, 95),
        "trend_width": max(12, min(_RUNS_DRAWN, len(newest))) * _STEP,
        "bars": trend(list(reversed(newest[:_RUNS_DRAWN]))),
        "longest": seconds[-1] if seconds else None,
        "days": days(job),
        "firings": firings(job),
        "printing": printing,
        "is_printing": printing is not None and printing is running,
        "tail": _tail(printing) if printing else "",
        "snoozed_until": job.alerts_snoozed_until if _is_future(job.alerts_snoozed_until) else None,
    }


def trend(runs: Sequence[JobRun]) -> list[Bar]:
    """Return a bar for each run, oldest first: its height is how long it took."""
    longest = max((run.duration or 0 for run in runs), default=0) or 1
    bars = []
    for place, run in enumerate(runs):
        height = _LEAST + (_HEIGHT - _LEAST) * (run.duration or 0) / longest
        took = f", {duration(run.duration)}" if run.duration is not None else ""
        reason = f": {run.note}" if run.note else ""
        title = f"Run {run.pk}, {run.queued_at:%Y-%m-%d %H:%M} UTC: {run.state}{took}{reason}"
        url = reverse("admin:jobs_jobrun_change", args=[run.pk])
        bars.append(Bar(place * _STEP, _HEIGHT - height, height, run.state, title, url))
    return bars


def days(job: Job) -> list[tuple[str, int, int, int | None]]:
    """Return for each of the last days its date, how many runs succeeded and failed, and the percentage."""
    today = utc_now().date()
    since = datetime.combine(today - timedelta(days=_DAYS - 1), datetime.min.time(), UTC)
    runs = JobRun.objects.filter(job=job, queued_at__gte=since, state__in=_COUNTED).order_by()
    counts: dict[Any, dict[str, int]] = defaultdict(lambda: {"good": 0, "bad": 0})
    for day, state, count in (
        runs.annotate(day=TruncDate("queued_at"))
        .values("day", "state")
        .annotate(count=Count("pk"))
        .values_list("day", "state", "count")
    ):
        counts[day]["good" if state == State.SUCCESS else "bad"] += count
    rows = []
    for number in range(_DAYS):
        day = since.date() + timedelta(days=number)
        good, bad = counts[day]["good"], counts[day]["bad"]
        rows.append((f"{day:%a %d}", good, bad, round(100 * good / (good + bad)) if good + bad else None))
    return rows


def firings(job: Job) -> list[Firing]:
    """Return the next firings of the schedule; none for one that was broken by hand."""
    try:
        moments = cron.firings_after(job.schedule, job.timezone, utc_now(), _FIRINGS)
        zone = zoneinfo.ZoneInfo(job.timezone)
    except (Invalid, zoneinfo.ZoneInfoNotFoundError, ValueError):
        return []
    return [Firing(f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M}", moment.astimezone(UTC)) for moment in moments]


def _tail(run: JobRun) -> str:
    data, _ = output.tail(run.pk, _TAIL_BYTES)
    return "\n".join(ansi.plain_text(data.decode(errors="replace")).rstrip("\n").split("\n")[-_TAIL_LINES:])


def _percentile(ordered: Sequence[float], percent: int) -> float | None:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else None


def _is_future(moment: datetime | None) -> bool:
    return moment is not None and moment > utc_now()
