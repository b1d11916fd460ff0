"""The activity log: what the tables record of people and programs, newest first, by day; successes are summed up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from urllib.parse import urlencode

from django.contrib.admin.models import LogEntry
from django.db.models import Q
from django.urls import NoReverseMatch, reverse

from broker.models import Outcome, TokenAudit
from core.timestamps import iso_text, parse, seconds_text
from events import change_log
from jobs.execution import reasons
from jobs.models import FAILURES, JobRun, State
from ops import queries
from tasks.models import TaskEvent, read_repos

PAGE = 50
_SHORT = 160
_DAY = timedelta(days=1)
_SUMMED_DAYS = 31
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """Something that happened: when, who did what, how it went, and where to read on."""

    at: datetime
    kind: str
    who: str
    what: str
    detail: str
    url: str
    state: str = ""


@dataclass(frozen=True)
class Asked:
    """What was asked for: a time from `since` on and before `before`, a kind, a part of the actor's name."""

    before: datetime
    since: datetime
    who: str = ""
    only_failures: bool = False


Source = Callable[[Asked], Iterator[Entry]]


def entries(
    *, before: datetime, since: datetime | None = None, kind: str = "", who: str = "", only_failures: bool = False
) -> list[Entry]:
    """Return a page or a little more of what happened in a time; without `since`, in the month before."""
    before = max(before, _EARLIEST)
    asked = Asked(before, since or before - _SUMMED_DAYS * _DAY, who, only_failures)
    chosen = [SOURCES[kind]] if kind in SOURCES else list(SOURCES.values())
    newest = [entry for source in chosen for entry in islice(source(asked), PAGE)]
    newest.sort(key=lambda entry: entry.at, reverse=True)
    if len(newest) <= PAGE:
        return newest
    second = newest[PAGE - 1].at.replace(microsecond=0)  # what happened within one second stays on one page
    return [entry for entry in newest if entry.at >= second]


def _task_events(asked: Asked) -> Iterator[Entry]:
    begin, end = seconds_text(asked.since), seconds_text(asked.before)
    events = TaskEvent.objects.filter(created_at__lt=end, created_at__gte=begin).order_by("-id")
    if asked.who:
        events = events.filter(Q(actor__icontains=asked.who) | Q(caller__icontains=asked.who))
    if asked.only_failures:
        events = events.filter(status="failed", event_type="updated")
    for event in events[:PAGE]:
        at = parse(event.created_at)
        if at is not None:
            url = reverse("admin:tasks_task_change", args=[event.task_id])
            detail = (event.detail or "")[:_SHORT]
            what = f"T{event.task_id} {event.event_type.replace('_', ' ')}"
            yield Entry(at, "task", event.who, what, detail, url, event.status or "")


def _runs(asked: Asked) -> Iterator[Entry]:
    """Yield runs that did not simply succeed, and for each job and day how many did."""
    runs = JobRun.objects.filter(queued_at__lt=asked.before, queued_at__gte=asked.since).select_related("job")
    if asked.who:
        runs = runs.filter(requested_by__icontains=asked.who)
    if asked.only_failures:
        runs = runs.filter(state__in=FAILURES)
    elif not asked.who:
        runs = runs.exclude(state=State.SUCCESS)
    listed = runs.defer("definition").order_by("-queued_at", "-id")[:PAGE]
    why = reasons.by_run(listed)
    for run in listed:
        url = reverse("admin:jobs_jobrun_change", args=[run.pk])
        what = f"run {run.pk} of {run.job.name}: {run.state}"
        yield Entry(run.queued_at, "run", run.requested_by or run.trigger, what, why[run.pk], url, run.state)


def _successes(asked: Asked) -> Iterator[Entry]:
    if asked.who or asked.only_failures:
        return
    listed = reverse("admin:jobs_jobrun_changelist")
    spans = (queries.runs_by_day(begin, end, PAGE) for begin, end in _spans(asked))
    for row in islice(chain.from_iterable(spans), PAGE):
        query = urlencode(
            {"job": row.job, "since": seconds_text(row.first), "until": seconds_text(row.last + timedelta(seconds=1))}
        )
        failed = f", {row.failed} failed" if row.failed else ""
        detail = f"{row.first:%H:%M} to {row.last:%H:%M}" if row.succeeded > 1 else ""
        yield Entry(
            row.last,
            "run",
            "",
            f"{row.job}: {row.succeeded} ok{failed}",
            detail,
            f"{listed}?{query}",
            "" if row.failed else "success",
        )


def _spans(asked: Asked) -> Iterator[tuple[datetime, datetime]]:
    """Part a time at midnights, from its end on, into a few ever longer spans: the newest days mostly fill a page."""
    end, days = asked.before, 1
    while end > asked.since:
        midnight = (end - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        begin = max(asked.since, midnight - (days - 1) * _DAY) if days <= _SUMMED_DAYS else asked.since
        yield begin, end
        end, days = begin, days * 2


def _tokens(asked: Asked) -> Iterator[Entry]:
    rows = TokenAudit.objects.filter(created_at__lt=iso_text(asked.before), created_at__gte=iso_text(asked.since))
    if asked.who:
        rows = rows.filter(Q(identity__icontains=asked.who) | Q(identity=None, task_id__icontains=asked.who))
    if asked.only_failures:
        rows = rows.filter(outcome__in=(Outcome.REFUSED, Outcome.FAILED))
    for row in rows.order_by("-id")[:PAGE]:
        at = parse(row.created_at)
        if at is not None:
            url = reverse("admin:broker_tokenaudit_changelist")
            # The older service kept no identity: an agent asked as its task.
            who_asked, what = row.identity or row.task_id, f"{row.task_id[:_SHORT]} {row.action.replace('_', ' ')}"
            repos = ", ".join(read_repos(row.repos) or ())
            detail = " ".join(filter(None, (repos[:_SHORT], (row.reason or "")[:_SHORT])))
            state = row.outcome if row.outcome in {Outcome.REFUSED, Outcome.FAILED} else ""
            yield Entry(at, "token", who_asked, what, detail, url, state or "")


def _changes(asked: Asked) -> Iterator[Entry]:
    if asked.only_failures:
        return
    log = LogEntry.objects.filter(action_time__lt=asked.before, action_time__gte=asked.since)
    by_programs = Q(user__username=change_log.PROGRAMS, change_message__icontains=asked.who)
    named = log.filter(Q(user__username__icontains=asked.who) | by_programs)
    for entry in named.select_related("user", "content_type")[:PAGE]:
        try:
            url = entry.get_admin_url() or ""
        except NoReverseMatch:
            url = ""
        what = f"{entry.content_type.name} {entry.object_repr}" if entry.content_type else entry.object_repr
        yield Entry(entry.action_time, "change", change_log.doer(entry), what, entry.get_change_message(), url)


def _all_runs(asked: Asked) -> Iterator[Entry]:
    """Yield both kinds of entries about runs, newest first."""
    yield from sorted([*_runs(asked), *_successes(asked)], key=lambda entry: entry.at, reverse=True)


SOURCES: dict[str, Source] = {"task": _task_events, "run": _all_runs, "token": _tokens, "change": _changes}
KINDS = tuple(SOURCES)
