"""Who could reach a repository on a day: the tokens that were good for it, and who was registered to ask for one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db.models import Q, QuerySet

from broker.models import Action, Outcome, TokenAudit
from core.errors import Invalid
from core.timestamps import parse, seconds_text
from tasks.models import OVER, TaskEvent, read_repos

_TOKEN_LIFE = timedelta(hours=1)
_MOST_ROWS = 20_000
_MOST_LISTED = 200
_ISSUED = (Action.TOKEN, Action.SERVICE_TOKEN)
_REGISTRATIONS = (Action.REGISTERED, Action.DEREGISTERED)
EVERY_REPOSITORY = "*"


@dataclass(frozen=True)
class Holder:
    """Somebody with a token for the repository: from when to when, and for what else."""

    entry: TokenAudit
    begin: datetime
    end: datetime
    is_revoked: bool
    is_for_all: bool

    @property
    def permissions(self) -> str:
        """What the token allowed, in words."""
        granted = json.loads(self.entry.permissions or "{}")
        return ", ".join(f"{name}: {level}" for name, level in granted.items())


@dataclass(frozen=True)
class Registered:
    """A registration under which a token for the repository could have been asked for."""

    entry: TokenAudit
    since: datetime


@dataclass(frozen=True)
class Answer:
    """The answer for one day in UTC; `problem` says why there is none."""

    holders: list[Holder] = field(default_factory=list)
    registered: list[Registered] = field(default_factory=list)
    is_cut: bool = False
    problem: str = ""


def on_day(repo: str, day: str) -> Answer:
    """Return who had a token for the repository on that day, and who could have got one."""
    try:
        start = _midnight(day)
    except Invalid as error:
        return Answer(problem=str(error))
    end = start + timedelta(days=1)
    holders = list(_holders(repo, start, end))
    registered = list(_registered(repo, start, end))
    is_cut = max(len(holders), len(registered)) > _MOST_LISTED
    return Answer(holders[:_MOST_LISTED], registered[:_MOST_LISTED], is_cut)


def _midnight(day: str) -> datetime:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise Invalid("Write the day as 2026-02-16.") from None


def _holders(repo: str, start: datetime, end: datetime) -> Iterator[Holder]:
    entries = list(_entries(start - timedelta(days=1), end).filter(action__in=_ISSUED).order_by("pk")[:_MOST_ROWS])
    revoked = dict(
        _entries(start - timedelta(days=1), end + _TOKEN_LIFE)
        .filter(action=Action.TOKEN_REVOKED, outcome=Outcome.REVOKED)
        .values_list("token_sha256", "created_at")
    )
    for entry in entries:
        repos = read_repos(entry.repos) or []
        is_for_all = EVERY_REPOSITORY in repos or (entry.action == Action.SERVICE_TOKEN and not repos)
        begin = parse(entry.created_at)
        if begin is None or not (is_for_all or any(_is_same(repo, each) for each in repos)):
            continue
        ended = parse(revoked.get(entry.token_sha256)) if entry.token_sha256 else None
        until = ended or parse(entry.expires_at) or begin + _TOKEN_LIFE
        if begin < end and until > start:
            yield Holder(entry, begin, until, ended is not None, is_for_all)


def _registered(repo: str, start: datetime, end: datetime) -> Iterator[Registered]:
    """Return the registrations that had begun before the day's end and had not ended before its start."""
    entries = TokenAudit.objects.filter(action__in=_REGISTRATIONS, created_at__lt=seconds_text(end)[:10])
    concerned = entries.filter(Q(action=Action.DEREGISTERED) | Q(repos__contains=repo.rpartition("/")[2]))
    last: dict[str, TokenAudit] = {}
    for entry in concerned.order_by("pk")[:_MOST_ROWS]:
        if entry.action == Action.REGISTERED:
            last[entry.task_id] = entry
        elif entry.task_id in last and (parse(entry.created_at) or end) < start:
            del last[entry.task_id]
    kept = [entry for entry in last.values() if any(_is_same(repo, each) for each in read_repos(entry.repos) or [])]
    over = _tasks_over_before(start, [entry.task_number for entry in kept if entry.task_number is not None])
    for entry in kept:
        since = parse(entry.created_at)
        if since is not None and entry.task_number not in over:
            yield Registered(entry, since)


def _tasks_over_before(start: datetime, numbers: list[int]) -> set[int]:
    """Return the tasks of which the last event before that time left them over."""
    newest: dict[int, str] = {}
    events = TaskEvent.objects.filter(task_id__in=numbers, created_at__lt=seconds_text(start))
    for number, status in events.order_by("pk").values_list("task_id", "status"):
        newest[number] = status or newest.get(number, "")
    return {number for number, status in newest.items() if status in OVER}


def _entries(begin: datetime, end: datetime) -> QuerySet[TokenAudit]:
    """Return the entries of these days; both forms of times begin with the day."""
    last = end + timedelta(days=1)
    return TokenAudit.objects.filter(created_at__gte=seconds_text(begin)[:10], created_at__lt=seconds_text(last)[:10])


def _is_same(asked: str, name: str) -> bool:
    """Compare owner/name; where one has no owner the names alone."""
    asked, name = asked.lower(), name.lower()
    if "/" in asked and "/" in name:
        return asked == name
    return asked.rpartition("/")[2] == name.rpartition("/")[2]
