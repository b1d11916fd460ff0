"""Who works on what: a lane for each task that an agent holds, those that are stuck first, and a board by status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Max, Q, QuerySet
from django.http import QueryDict

from broker.models import IssuedToken
from core.callers import Caller
from core.errors import Invalid
from core.timestamps import iso_text, parse, seconds_text, utc_now
from jobs.alerts import kinds
from tasks import overdue, services
from tasks.models import OVER, Status, Task, TaskEvent, TaskLease

MOST_LANES, LANES_SHOWN, MOST_CARDS = 200, 100, 30
_OVER_FOR = timedelta(days=1)  # the board shows of those that are over what ended in the last day
_FILTERS = ("type", "repo", "agent", "priority", "q")
_AWAY = {"status": Status.QUEUED, "assigned_to": None, "assigned_at": None, "completed_at": None}
# What an operator may make of a task on the board: the word on the button, by the status it has.
MOVES: dict[str, tuple[tuple[str, str], ...]] = {
    Status.QUEUED: (("block", "Block"), ("cancel", "Cancel")),
    Status.ACTIVE: (("requeue", "Take away"), ("complete", "Complete"), ("fail", "Fail")),
    Status.BLOCKED: (("requeue", "Queue"), ("cancel", "Cancel")),
    Status.FAILED: (("requeue", "Queue again"), ("cancel", "Cancel")),
}
_CHANGES: dict[str, dict[str, Any]] = {
    "requeue": _AWAY,
    "block": {"status": Status.BLOCKED},
    "complete": {"status": Status.COMPLETED},
    "fail": {"status": Status.FAILED},
}


@dataclass(frozen=True)
class Holder:
    """Who holds a task, since when, and the last sign that they still work on it."""

    name: str
    since: datetime | None
    last_sign: datetime | None
    progress: str = ""


@dataclass(frozen=True)
class Lane:
    """A task that is worked on; `share` is the part of its estimate that is used up, in percent."""

    task: Task
    holder: Holder
    is_stuck: bool
    minutes: int | None
    share: int | None
    tokens: int

    @property
    def level(self) -> str:
        if self.is_stuck:
            return "stuck"
        return "warn" if self.share is not None and self.share > 100 else "busy"


@dataclass(frozen=True)
class Column:
    """The tasks of a status; `more` of them are not shown."""

    status: str
    tasks: Sequence[Task]
    count: int
    moves: Sequence[tuple[str, str]]

    @property
    def more(self) -> int:
        return self.count - len(self.tasks)


@dataclass(frozen=True)
class Filters:
    """What was chosen in the address."""

    type: str = ""
    repo: str = ""
    agent: str = ""
    priority: str = ""
    q: str = ""

    @classmethod
    def read(cls, parameters: QueryDict) -> Filters:
        return cls(**{name: parameters.get(name, "").strip()[:200] for name in _FILTERS})

    @property
    def query(self) -> str:
        return urlencode({name: value for name in _FILTERS if (value := getattr(self, name))})

    def apply(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        if self.type:
            tasks = tasks.filter(type=self.type)
        if self.repo:
            tasks = tasks.filter(repos__icontains=self.repo)
        if self.agent:
            tasks = tasks.filter(assigned_to__icontains=self.agent)
        if self.priority:
            tasks = tasks.filter(priority=self.priority)
        if self.q:
            tasks = tasks.filter(Q(name__icontains=self.q) | Q(slug__icontains=self.q))
        return tasks


def lanes(filters: Filters, now: datetime | None = None) -> list[Lane]:
    """Return a lane for each active task, the stuck ones first, then the longest at work."""
    now = now or utc_now()
    tasks = list(filters.apply(Task.objects.filter(status=Status.ACTIVE)).order_by("id")[:MOST_LANES])
    held, tokens, limit = holders(tasks), _live_tokens(tasks, now), kinds.overdue_limits().active
    made = [_lane(task, held[task.pk], tokens.get(task.pk, 0), now, limit) for task in tasks]
    return sorted(made, key=lambda lane: (not lane.is_stuck, -(lane.minutes or 0)))


def holders(tasks: Iterable[Task]) -> dict[int, Holder]:
    """Return who holds each task: the holder of its lease, else whom it is assigned to.

    The last sign of life is the lease's last heartbeat, or the task's newest event where there is no lease.
    """
    tasks = list(tasks)
    live = TaskLease.objects.filter(task_id__in=[task.pk for task in tasks], ended_at=None)
    leased = {lease.task_id: Holder(lease.who, lease.taken_at, lease.beat_at, lease.progress) for lease in live}
    events = TaskEvent.objects.filter(task_id__in=[task.pk for task in tasks]).order_by().values_list("task_id")
    newest = dict(events.annotate(at=Max("created_at")))
    assigned = {
        task.pk: Holder(task.assigned_to or "", parse(task.assigned_at), parse(newest.get(task.pk))) for task in tasks
    }
    return {**assigned, **leased}


def board(filters: Filters, now: datetime | None = None) -> list[Column]:
    """Return a column for each status; of what is over, the last day."""
    now = now or utc_now()
    since = seconds_text(now - _OVER_FOR)
    columns = []
    for status in (Status.QUEUED, Status.ACTIVE, Status.BLOCKED, Status.FAILED, Status.COMPLETED):
        tasks = filters.apply(Task.objects.filter(status=status))
        if status in OVER:
            tasks = tasks.filter(updated_at__gte=since)
        newest_first = tasks.order_by("-id" if status in OVER else "id")
        columns.append(Column(status, list(newest_first[:MOST_CARDS]), tasks.count(), MOVES.get(status, ())))
    return columns


def choices() -> dict[str, list[str]]:
    """Return the types, priorities and repositories of the tasks that are not over, for the filters."""
    open_tasks = Task.objects.open().order_by()
    types = open_tasks.values_list("type", flat=True).distinct()[:50]
    repos: Counter[str] = Counter()
    for task in open_tasks.only("repos")[:1000]:
        repos.update(task.repo_list or ())
    return {
        "types": sorted(filter(None, types)),
        "repos": [name for name, _ in repos.most_common(50)],
        "priorities": ["critical", "high", "normal", "low"],
    }


def move(*, task_id: int, verb: str, caller: Caller) -> str:
    """Do what a button of the board says; return a sentence. Raises Invalid, NotFound, Conflict."""
    if verb == "cancel":
        services.cancel_task(
            task_id=task_id, actor=caller.identity, caller=caller, detail="Task cancelled by an operator"
        )
        return f"T{task_id} is cancelled."
    if verb not in _CHANGES:
        raise Invalid(f"there is no move {verb[:50]}")
    before = services.get_task(task_id)
    changes = {**_CHANGES[verb], **({"completed_at": iso_text()} if verb == "complete" else {})}
    services.update_task(task_id=task_id, changes=changes, actor=caller.identity, caller=caller)
    if verb == "requeue" and before.assigned_to:
        return f"T{task_id} was taken from {before.assigned_to} and is queued again."
    return f"T{task_id} is {changes['status']}."


def _lane(task: Task, holder: Holder, tokens: int, now: datetime, limit: int) -> Lane:
    minutes = max(0, int((now - holder.since).total_seconds() // 60)) if holder.since else None
    estimate = task.estimate_minutes if isinstance(task.estimate_minutes, int) and task.estimate_minutes > 0 else None
    share = round(100 * minutes / estimate) if minutes is not None and estimate else None
    return Lane(task, holder, overdue.is_active_too_long(task, now, limit), minutes, share, tokens)


def _live_tokens(tasks: Sequence[Task], now: datetime) -> Mapping[int, int]:
    """Count the tokens of each task that are out."""
    keys = {f"task:{task.pk}": task.pk for task in tasks}
    live = IssuedToken.objects.filter(key__in=keys, state=IssuedToken.State.LIVE, expires_at__gt=now).order_by()
    return {keys[key]: count for key, count in live.values_list("key").annotate(count=Count("pk"))}
