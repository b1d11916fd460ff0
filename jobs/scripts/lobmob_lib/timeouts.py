"""Tasks that take longer than estimated, and tasks that nobody takes."""

from __future__ import annotations

from .fleet_tasks import Task, Tasks, alone, assigned_at, assignment, title
from .pulls import Pulls
from .times import minutes_since, parse

_WARN_AFTER, _FAIL_AFTER = 45, 90  # minutes, without an estimate
_SPARE = 15


def limits(task: Task) -> tuple[float, float]:
    """After how many minutes a task is warned of, and reported as failed."""
    estimate = task.get("estimate_minutes")
    if not isinstance(estimate, int) or estimate <= 0:
        return _WARN_AFTER, _FAIL_AFTER
    return estimate + _SPARE, estimate * 2


def check_timeouts(tasks: Tasks, active: list[Task], pulls: Pulls) -> None:
    """Report each overdue task once for its assignment; its status is left as it is."""
    for task in active:
        with alone(task, tasks.report):
            _check_timeout(tasks, task, pulls)


def check_queue(tasks: Tasks, queued: list[Task], limit_minutes: float) -> None:
    """Report once what waits longer than the limit."""
    for task in queued:
        if task.get("type") != "system":
            with alone(task, tasks.report):
                _check_delay(tasks, task, limit_minutes)


def _check_timeout(tasks: Tasks, task: Task, pulls: Pulls) -> None:
    since = assigned_at(task)
    if since is None:
        return
    minutes, (warn, fail) = minutes_since(since), limits(task)
    if minutes < min(warn, fail) or pulls.may_have_one(task):
        return
    mark = assignment(task)
    if tasks.said(task, "timeout_failure", mark):
        return
    if minutes >= fail:
        kind, word, limit = "timeout_failure", "has failed to end in time", fail
    elif not tasks.said(task, "timeout_warning", mark):
        kind, word, limit = "timeout_warning", "is taking long", warn
    else:
        return
    text = f"{title(task)} {word}: active for {minutes:.0f} minutes, the limit is {limit:.0f}"
    tasks.say(task, kind, f"{text} {mark}")
    tasks.report.did("timeouts reported", text)
    tasks.tell_thread(task, text)


def _check_delay(tasks: Tasks, task: Task, limit_minutes: float) -> None:
    created = parse(task.get("created_at"))
    if created is None or minutes_since(created) < limit_minutes:
        return
    requeued = [parse(event.get("created_at")) for event in tasks.events(task, "requeued")]
    since = max([created, *(moment for moment in requeued if moment)])
    mark = f"[queued since {since:%Y-%m-%d %H:%M:%S}]"
    if minutes_since(since) < limit_minutes or tasks.said(task, "queue_delay", mark):
        return
    text = f"{title(task)} has been queued for {minutes_since(since):.0f} minutes"
    tasks.say(task, "queue_delay", f"{text} {mark}")
    tasks.report.did("delays reported", text)
