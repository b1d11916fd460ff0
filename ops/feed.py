"""The feed as a page: each event with all that it holds, by type, subject, person and time."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db.models import Max, Min, Q
from django.urls import NoReverseMatch, reverse

from core.display import duration
from core.errors import Invalid
from events.models import Event
from events.types import TYPES, expand
from tasks.ids import parse_typed_id

PAGE = 100
# The field of an event's data that says in words what happened, whichever it has.
_SENTENCES = ("detail", "note", "message", "reason", "error")


@dataclass(frozen=True)
class Asked:
    """What was asked for: a type or the beginning of some, `run.*`, a subject, a part of a name, a time, a cursor."""

    type: str = ""
    subject: str = ""
    who: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


@dataclass(frozen=True)
class Entry:
    """An event as it is listed."""

    event: Event
    sentence: str
    data: str
    url: str


def entries(asked: Asked) -> list[Entry]:
    """Return a page of events, newest first; an unknown type has none."""
    events = Event.objects.order_by("-id")
    if asked.since:
        events = events.filter(id__gte=_first_since(asked.since))
    if asked.until:
        events = events.filter(id__lt=_first_since(asked.until))
    if asked.before is not None:
        events = events.filter(id__lt=asked.before)
    if asked.type:
        events = events.filter(type__in=_types(asked.type))
    if asked.subject:
        number = parse_typed_id(asked.subject) if asked.subject[0] in "tT" else None
        events = events.filter(Q(task_id=number) if number else Q(subject__iexact=asked.subject))
    if asked.who:
        events = events.filter(Q(actor__icontains=asked.who) | Q(caller__icontains=asked.who))
    return [_entry(event) for event in events[:PAGE]]


def type_choices() -> list[tuple[str, list[str]]]:
    """Return the beginnings that types share, each with its types."""
    return [(f"{name}.*", list(types)) for name, types in groupby(sorted(TYPES), key=lambda each: each.split(".")[0])]


def _types(name: str) -> frozenset[str]:
    try:
        return expand([name])
    except Invalid:
        return frozenset()


def _first_since(moment: datetime) -> int:
    """Return the id from which on events are of this time or later: both grow together, and ids alone are indexed."""
    ends = Event.objects.aggregate(oldest=Min("id"), newest=Max("id"))
    oldest: int = ends["oldest"] or 0
    return oldest + bisect_left(range(oldest, (ends["newest"] or -1) + 1), moment, key=_time_at)


def _time_at(number: int) -> datetime:
    return Event.objects.filter(id__gte=number).order_by("id").values_list("at", flat=True)[0]


def _entry(event: Event) -> Entry:
    data = event.data if isinstance(event.data, dict) else {}
    words = TYPES[event.type].words if event.type in TYPES else event.type
    sentence = next((str(data[name]) for name in _SENTENCES if data.get(name)), words)
    if "run_id" in data:
        took = duration(data["duration"]) if isinstance(data.get("duration"), int | float) else ""
        sentence = " · ".join(filter(None, (f"{data.get('job')}: {data.get('state')}", took, data.get("note"))))
    return Entry(event, sentence, json.dumps(event.data, indent=2, ensure_ascii=False), _url(event, data))


def _url(event: Event, data: dict[str, Any]) -> str:
    """Return the page of what an event is about; empty where there is none."""
    try:
        if event.type == "admin.changed":
            return reverse(f"admin:{str(data['model']).replace('.', '_')}_change", args=[data["object_id"]])
        if event.task_id is not None:
            return reverse("admin:tasks_task_change", args=[event.task_id])
        page = _PAGES.get(event.type.partition(".")[0])
        return page(data) if page else ""
    except (NoReverseMatch, KeyError):
        return ""


_PAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "run": lambda data: reverse("admin:jobs_jobrun_change", args=[data["run_id"]]),
    "vault": lambda data: reverse("admin:vaultsync_vaultstate_changelist"),
    "budget": lambda data: reverse("admin:costs"),
    "key": lambda data: reverse("admin:lobwife_apikey_changelist"),
    **dict.fromkeys(("token", "registration", "access"), lambda data: reverse("admin:broker_tokenaudit_changelist")),
}
