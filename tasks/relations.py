"""Relations of tasks: what one depends on, its parent, its group, and the time before which nobody claims it.

And what a new status of a task brings with it for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings

from core.callers import Caller
from core.errors import Conflict, Invalid
from core.timestamps import parse, seconds_text, utc_now
from tasks import queries
from tasks.events import FeedEvent, append_event
from tasks.models import OVER, Status, Task, TaskDependency, TaskPlan
from tasks.questions.queries import withdraw_open

RELATIONS = ("depends_on", "parent", "group", "not_before")
_LOST = (Status.FAILED, Status.CANCELLED)  # a dependency that is one of these blocks
_UNBLOCKED = FeedEvent("task.unblocked")
_MOST_DEPENDENCIES = 100
_MOST_VISITED = 10_000


def split_relations(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns of a task, and its relations, of what a body sets."""
    columns = {name: value for name, value in values.items() if name not in RELATIONS}
    return columns, {name: value for name, value in values.items() if name in RELATIONS}


def set_relations(task_id: int, relations: Mapping[str, Any], caller: Caller | None) -> None:
    """Store relations, within the transaction of the change; raises Invalid, Conflict for a cycle."""
    if not relations:
        return
    plan = TaskPlan.objects.get_or_create(task_id=task_id)[0]
    if "parent" in relations:
        _check_exist([relations["parent"]] if relations["parent"] else [], "parent")
        plan.parent_id = relations["parent"]
        _check_no_cycle(task_id, [plan.parent_id] if plan.parent_id else [], _parents, "parent")
    if "group" in relations:
        plan.group = relations["group"] or None
    if "not_before" in relations:
        plan.not_before = parse(relations["not_before"])
    plan.save()
    if "depends_on" in relations:
        _set_dependencies(task_id, relations["depends_on"] or [])


def check_subtask(parent_id: int) -> None:
    """Raise Conflict when an agent has made as many tasks under its own, or as deep a tree, as it may."""
    most, depth, ancestor = settings.SUBTASKS_PER_TASK, 1, parent_id
    if TaskPlan.objects.filter(parent_id=parent_id).count() >= most:
        raise Conflict(f"task T{parent_id} has {most} subtasks, the most that its agent may make (LOBWIFE_SUBTASKS)")
    while (above := _parents([ancestor]).get(ancestor)) and depth <= settings.SUBTASK_DEPTH:
        depth, ancestor = depth + 1, above[0]
    if depth > settings.SUBTASK_DEPTH:
        raise Conflict(f"subtasks are at most {settings.SUBTASK_DEPTH} levels deep (LOBWIFE_SUBTASK_DEPTH)")


def follow_status(task_id: int, status: str, now: str) -> None:
    """Withdraw the open questions of a task that is over, and block the tasks that wait for one that is lost.

    Lost is what failed or was cancelled; once it is neither any more, they are free again.
    """
    if status in OVER:
        withdraw_open(task_id, utc_now())
    if status in _LOST:
        waiting = queries.dependants(task_id)
        for number in waiting:
            block(number, task_id, status, now)
        return
    for number in queries.blocked_by(task_id):
        lost = _lost_dependency(number)
        TaskPlan.objects.filter(pk=number).update(blocked_by=lost[0] if lost else None)
        blocked = Task.objects.filter(pk=number, status=Status.BLOCKED)
        if lost is None and blocked.update(status=Status.QUEUED, updated_at=now):
            detail = f"T{task_id}, which it depends on, is {status}"
            append_event(number, "unblocked", detail, None, now, Status.QUEUED, None, tells=_UNBLOCKED)


def block(task_id: int, dependency: int, status: str, now: str) -> None:
    """Block a queued task whose dependency is lost."""
    if Task.objects.filter(pk=task_id, status=Status.QUEUED).update(status=Status.BLOCKED, updated_at=now):
        _store_blocker(task_id, dependency)
        detail = f"T{dependency}, which it depends on, is {status}"
        append_event(task_id, "blocked", detail, None, now, Status.BLOCKED, None, tells=FeedEvent("task.blocked"))


def _set_dependencies(task_id: int, depends_on: Iterable[int]) -> None:
    numbers = list(dict.fromkeys(depends_on))
    if len(numbers) > _MOST_DEPENDENCIES:
        raise Invalid(f"depends_on must be at most {_MOST_DEPENDENCIES} tasks")
    _check_exist(numbers, "depends_on")
    _check_no_cycle(task_id, numbers, _dependencies, "depends_on")
    TaskDependency.objects.filter(task_id=task_id).exclude(depends_on_id__in=numbers).delete()
    rows = [TaskDependency(task_id=task_id, depends_on_id=number) for number in numbers]
    TaskDependency.objects.bulk_create(rows, ignore_conflicts=True)
    lost, now = _lost_dependency(task_id), seconds_text()
    if lost is not None:
        block(task_id, *lost, now)
        return
    if TaskPlan.objects.filter(pk=task_id, blocked_by__isnull=False).update(blocked_by=None):
        freed = Task.objects.filter(pk=task_id, status=Status.BLOCKED).update(status=Status.QUEUED, updated_at=now)
        if freed:
            detail = "it depends on no lost task"
            append_event(task_id, "unblocked", detail, None, now, Status.QUEUED, None, tells=_UNBLOCKED)


def _store_blocker(task_id: int, dependency: int) -> None:
    TaskPlan.objects.update_or_create(task_id=task_id, defaults={"blocked_by": dependency})


def _lost_dependency(task_id: int) -> tuple[int, str] | None:
    numbers = TaskDependency.objects.filter(task_id=task_id).values("depends_on_id")
    lost = Task.objects.filter(pk__in=numbers, status__in=_LOST).order_by("pk").values_list("pk", "status").first()
    return (lost[0], str(lost[1])) if lost else None


def _check_exist(numbers: Iterable[int], field: str) -> None:
    wanted = set(numbers)
    missing = wanted - set(Task.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    if missing:
        raise Invalid(f"{field} names T{min(missing)}, which does not exist")


def _dependencies(numbers: Iterable[int]) -> dict[int, list[int]]:
    above: dict[int, list[int]] = {}
    rows = TaskDependency.objects.filter(task_id__in=list(numbers)).order_by("id")
    for task_id, other in rows.values_list("task_id", "depends_on_id"):
        above.setdefault(task_id, []).append(other)
    return above


def _parents(numbers: Iterable[int]) -> dict[int, list[int]]:
    rows = TaskPlan.objects.filter(pk__in=list(numbers), parent_id__isnull=False)
    return {number: [parent] for number, parent in rows.values_list("pk", "parent_id") if parent is not None}


def _check_no_cycle(
    task_id: int, numbers: Iterable[int], above: Callable[[Iterable[int]], dict[int, list[int]]], field: str
) -> None:
    """Raise Conflict, with the cycle, when the task would be reached from one of these numbers."""
    came_from = dict.fromkeys(numbers, task_id)
    level = list(came_from)
    while level and task_id not in came_from:
        if len(came_from) > _MOST_VISITED:
            raise Conflict(f"{field} leads to more than {_MOST_VISITED:,} tasks")
        following = above(level)
        level = []
        for number, others in following.items():
            for other in others:
                if other not in came_from:
                    came_from[other] = number
                    level.append(other)
    if task_id in came_from:
        path, number = [task_id], came_from[task_id]
        while number != task_id:
            path.append(number)
            number = came_from[number]
        cycle = " → ".join(f"T{each}" for each in reversed([*path, task_id]))
        raise Conflict(f"{field} would be a cycle: {cycle}")
