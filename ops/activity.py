"""The activity log: one view, newest first, of what the tables record already of people and programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.contrib.admin.models import LogEntry
from django.db.models import Q
from django.urls import NoReverseMatch, reverse

from broker.models import TokenAudit
from core.timestamps import iso_text, parse, seconds_text
from jobs import change_log
from jobs.models import JobRun
from tasks.models import TaskEvent

PAGE = 50
_SHORT = 160


@dataclass(frozen=True)
class Entry:
    """Something that happened: when, who did what, and where to read on."""

    at: datetime
    kind: str
    who: str
    what: str
    detail: str
    url: str


Source = Callable[[datetime, str], Iterator[Entry]]


def entries(*, before: datetime, kind: str = "", who: str = "") -> list[Entry]:
    """Return a page or a little more of what happened before a moment; `who` is a part of the actor's name."""
    chosen = [SOURCES[kind]] if kind in SOURCES else list(SOURCES.values())
    newest = [entry for source in chosen for entry in islice(source(before, who), PAGE)]
    newest.sort(key=lambda entry: entry.at, reverse=True)
    if len(newest) <= PAGE:
        return newest
    second = newest[PAGE - 1].at.replace(microsecond=0)  # what happened within one second stays on one page
    return [entry for entry in newest if entry.at >= second]


def _task_events(before: datetime, who: str) -> Iterator[Entry]:
    events = TaskEvent.objects.filter(created_at__lt=seconds_text(before)).order_by("-id")
    for event in (events.filter(Q(actor__icontains=who) | Q(caller__icontains=who)) if who else events)[:PAGE]:
        at = parse(event.created_at)
        if at is not None:
            url = reverse("admin:tasks_task_change", args=[event.task_id])
            detail = (event.detail or "")[:_SHORT]
            yield Entry(at, "task", event.who, f"T{event.task_id} {event.event_type}", detail, url)


def _runs(before: datetime, who: str) -> Iterator[Entry]:
    runs = JobRun.objects.filter(queued_at__lt=before).select_related("job").order_by("-id")
    for run in (runs.filter(requested_by__icontains=who) if who else runs)[:PAGE]:
        url = reverse("admin:jobs_jobrun_change", args=[run.pk])
        who_asked = run.requested_by or run.trigger
        yield Entry(run.queued_at, "run", who_asked, f"run {run.pk} of {run.job.name}: {run.state}", run.note, url)


def _tokens(before: datetime, who: str) -> Iterator[Entry]:
    rows = TokenAudit.objects.filter(created_at__lt=iso_text(before)).order_by("-id")
    of_them = Q(identity__icontains=who) | Q(identity=None, task_id__icontains=who)
    for row in (rows.filter(of_them) if who else rows)[:PAGE]:
        at = parse(row.created_at)
        if at is not None:
            url = reverse("admin:broker_tokenaudit_changelist")
            # The older service kept no identity: an agent asked as its task.
            who_asked, what = row.identity or row.task_id, f"{row.task_id[:_SHORT]} {row.action.replace('_', ' ')}"
            yield Entry(at, "token", who_asked, what, (row.repos or "")[:_SHORT], url)


def _changes(before: datetime, who: str) -> Iterator[Entry]:
    log = LogEntry.objects.filter(action_time__lt=before).select_related("user", "content_type")
    by_programs = Q(user__username=change_log.PROGRAMS, change_message__icontains=who)
    for entry in log.filter(Q(user__username__icontains=who) | by_programs)[:PAGE]:
        try:
            url = entry.get_admin_url() or ""
        except NoReverseMatch:
            url = ""
        what = f"{entry.content_type.name} {entry.object_repr}" if entry.content_type else entry.object_repr
        yield Entry(entry.action_time, "change", change_log.doer(entry), what, entry.get_change_message(), url)


SOURCES: dict[str, Source] = {"task": _task_events, "run": _runs, "token": _tokens, "change": _changes}
KINDS = tuple(SOURCES)
