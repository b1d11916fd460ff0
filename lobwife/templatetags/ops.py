"""How the pages say times, durations, sizes and states."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs import waiting
from jobs.ansi import plain_text
from jobs.models import Job, JobRun, JobState, State
from lobwife.base.timestamps import parse, utc_now
from lobwife.ops import charts

register = template.Library()
_STEPS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_RUNS_COUNTED, _BARS = 100, 60
_COUNTED = (State.SUCCESS, State.FAILED, State.TIMEOUT, State.ERROR, State.LOST)
_SIZES = ("bytes", "kB", "MB", "GB")


@register.filter
def span(seconds: float | None) -> str:
    """A duration as people say it: `85 ms`, `12 s`, `3 min 5 s`, `2 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    rest = round(seconds)
    parts = []
    for unit, length in _STEPS:
        if rest >= length:
            parts.append(f"{rest // length} {unit}")
            rest %= length
    return " ".join(parts[:2]) or "0 s"


def _about(seconds: float) -> str:
    """A distance in time, without seconds beside minutes: a page is read longer than they are right."""
    return span(seconds) if seconds < 60 else span(seconds // 60 * 60)


@register.filter
def when(moment: datetime | str | None) -> SafeString | str:
    """A moment relative to now, with the exact UTC on hover; text that can't be read is shown as it is."""
    known = parse(moment) if isinstance(moment, str) else moment
    if known is None:
        return moment if isinstance(moment, str) and moment else "–"
    seconds = (utc_now() - known).total_seconds()
    words = "now" if abs(seconds) < 1 else f"{_about(seconds)} ago" if seconds > 0 else f"in {_about(-seconds)}"
    exact = known.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>', exact.isoformat(), exact.strftime("%Y-%m-%d %H:%M:%S"), words
    )


@register.filter
def size(count: float | None) -> str:
    """Bytes as people say them."""
    if count is None:
        return "–"
    for unit in _SIZES:
        if count < 1000 or unit == _SIZES[-1]:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return ""


@register.filter
def badge(state: str | None) -> SafeString:
    """A state as a coloured word; the colour adds nothing that the word does not say."""
    word = state or "never ran"
    return format_html('<span class="badge badge-{}">{}</span>', word.replace(" ", "-"), word)


@register.inclusion_tag("ops/job_summary.html", takes_context=True)
def job_summary(context: dict[str, Any], job: Job) -> dict[str, Any]:
    """How a job has been doing: its last runs as bars, how many succeeded, how long they took."""
    columns = ("job", "state", "duration", "queued_at", "not_before")
    newest = list(JobRun.objects.filter(job=job).only(*columns).order_by("-id")[:_RUNS_COUNTED])
    over = [run for run in newest if run.state in _COUNTED]
    active = next((run for run in newest if run.is_active), None)
    if active:
        active.job = job
        waiting.look([active])
    state = JobState.objects.filter(name=job.name).first()
    durations = sorted(run.duration for run in over if run.duration is not None)
    return {
        "job": job,
        "may_change": context["request"].user.has_perm("jobs.change_job"),
        "csrf_token": context.get("csrf_token"),
        "active": active,
        "strip": charts.run_strip(
            [charts.as_bar(run.pk, run.state, run.duration, run.queued_at) for run in reversed(newest[:_BARS])], _BARS
        ),
        "counted": len(over),
        "rate": round(100 * sum(run.state == State.SUCCESS for run in over) / len(over)) if over else None,
        "median": durations[len(durations) // 2] if durations else None,
        "longest": durations[-1] if durations else None,
        "newest": newest[0] if newest else None,
        "last_output": plain_text(state.last_output or "") if state else "",
    }
