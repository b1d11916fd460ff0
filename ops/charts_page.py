"""The page of charts: runs, tasks, agents and tokens over a range."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.display import duration
from jobs.models import Job
from ops import charts, trends

_HOUR, _DAY = 3600, 86400
# The ranges: what the address calls each, its label, the seconds of a step, the number of steps.
RANGES = (
    ("6h", "6 h", 900, 24),
    ("24h", "24 h", _HOUR, 24),
    ("7d", "7 days", 6 * _HOUR, 28),
    ("14d", "14 days", 12 * _HOUR, 28),
    ("30d", "30 days", _DAY, 30),
)
_JOBS_LISTED = 1000


@dataclass(frozen=True)
class Choice:
    """What was chosen in the address: the range, and one job or all."""

    name: str
    seconds: int
    count: int
    job: Job | None = None


def choose(name: str, job_name: str) -> Choice:
    """Return the chosen range, 24 hours where there is none of that name."""
    listed = {each[0]: each for each in RANGES}
    _, _, seconds, count = listed.get(name, listed["24h"])
    job = Job.objects.filter(name=job_name).first() if job_name else None
    return Choice(name if name in listed else "24h", seconds, count, job)


def context(choice: Choice, now: datetime) -> dict[str, Any]:
    """Return the plots and the tables of times."""
    span = trends.Span.until(now, seconds=choice.seconds, count=choice.count)
    runs, tasks, tokens = (
        trends.runs(span, choice.job.pk if choice.job else None),
        trends.tasks(span),
        trends.tokens(span),
    )
    moments = span.moments
    hours = span.seconds / _HOUR

    def percent(value: float) -> str:
        return f"{value:.0f} %"

    def number(value: float) -> str:
        return f"{value:.1f}" if value < 10 and value != int(value) else f"{value:.0f}"

    counts = [charts.Series("ended well", runs.succeeded, "good"), charts.Series("failed", runs.failed, "bad")]
    durations = [charts.Series("p50", runs.median), charts.Series("p95", runs.p95, "b")]
    per_hour = [charts.Series("an hour", [count / hours for count in tokens])]
    done = [charts.Series("completed", tasks.completed, "good"), charts.Series("failed", tasks.failed, "bad")]
    of_runs = [
        ("duration", charts.plot("Duration of runs", moments, durations, write=duration)),
        (
            "success",
            charts.plot(
                "Success rate", moments, [charts.Series("rate", runs.success_rate, "good")], write=percent, highest=100
            ),
        ),
        ("runs", charts.plot("Runs", moments, counts, as_bars=True)),
    ]
    of_tasks = [
        ("queue", charts.plot("Queue length", moments, [charts.Series("queued", tasks.queued)])),
        (
            "age",
            charts.plot(
                "Age of the oldest in the queue",
                moments,
                [charts.Series("age", tasks.oldest_seconds, "b")],
                write=duration,
            ),
        ),
        ("done", charts.plot("Tasks ended", moments, done, as_bars=True)),
        ("agents", charts.plot("Agents at work", moments, [charts.Series("agents", tasks.agents)])),
        ("tokens", charts.plot("Tokens handed out per hour", moments, per_hour, write=number)),
    ]
    return {
        "range": choice.name,
        "ranges": [(name, label) for name, label, _, _ in RANGES],
        "job": choice.job,
        "job_names": list(Job.objects.order_by("name").values_list("name", flat=True)[:_JOBS_LISTED]),
        "of_runs": of_runs,
        "of_tasks": of_tasks,
        "times": [("By type", tasks.by_type), ("By repository", tasks.by_repository)],
        "step": duration(span.seconds),
    }
