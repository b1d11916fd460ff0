"""Active tasks whose lobster is gone."""

from __future__ import annotations

from . import cluster, github
from .fleet_tasks import Task, Tasks, alone, assigned_at, assignment, title
from .investigations import Investigations
from .pulls import Pulls, Unknown
from .times import minutes_since, now, parse
from .tools import Missing, ToolError

_TOO_YOUNG_MINUTES = 2
_REQUEUE_MINUTES = 30
_MOST_REQUEUES = 3


def check_orphans(tasks: Tasks, active: list[Task], pulls: Pulls, investigations: Investigations) -> None:
    """Save what an orphan did, else give it to another, else call it failed."""
    suspects = [task for task in active if task.get("assigned_to") and task.get("type") != "system"]
    if not suspects:
        return
    try:
        jobs = cluster.lobster_jobs()
    except ToolError as error:
        tell = tasks.report.note if isinstance(error, Missing) else tasks.report.fail
        tell(f"orphans are not looked for: {error}")
        return
    orphans = [task for task in suspects if task["assigned_to"] not in jobs]
    if orphans and not pulls.vault_repo:
        tasks.report.note("orphans are left alone: VAULT_REPO is not set, so their work can't be looked for")
        return
    for task in orphans:
        try:
            with alone(task, tasks.report):
                _settle(tasks, task, pulls, investigations)
        except Unknown:
            continue
        except ToolError as error:
            tasks.report.fail(f"{task['task_id']} is left alone: {error}")


def _settle(tasks: Tasks, task: Task, pulls: Pulls, investigations: Investigations) -> None:
    age = _minutes_assigned(task)
    if age is None or age < _TOO_YOUNG_MINUTES:
        return
    mark = assignment(task)
    pull = pulls.of(task)
    if pull is not None:
        known = tasks.said(task, "orphan_with_pr", mark) or tasks.said(task, "fallback_pr", mark)
        if not known:
            text = f"{title(task)} lost its lobster; its pull request {pull.url or pull.number} is open"
            tasks.say(task, "orphan_with_pr", f"{text} {mark}")
            tasks.report.did("left with a pull request", text)
        return
    if not tasks.said(task, "fallback_pr", mark) and _saved_by_pull(tasks, task, pulls, mark):
        return
    if not tasks.unchanged(task):
        return
    requeues = [event for event in tasks.events(task, "requeued")]
    begun = tasks.said(task, "requeued", mark)  # by a run that was cut short
    if begun or (age < _REQUEUE_MINUTES and len(requeues) < _MOST_REQUEUES):
        _requeue(tasks, task, mark, begun=begun)
    else:
        _fail(tasks, task, mark, age, len(requeues), investigations)


def _saved_by_pull(tasks: Tasks, task: Task, pulls: Pulls, mark: str) -> bool:
    """Return True when a branch of the task has work that is now, or would be, in a pull request."""
    repo = pulls.vault_repo
    branch = next((name for name in pulls.branches_of(task) if github.is_ahead(repo, name)), None)
    if branch is None:
        return False
    if not tasks.unchanged(task):
        return True
    url = ""
    if not tasks.report.dry_run:
        body = f"{task['assigned_to']} is gone and left this branch. Opened so that its work is looked at."
        url = github.open_pull(repo, branch, title=f"{task['task_id']}: {task['name']}"[:200], body=body)
    text = f"{title(task)} lost its lobster; opened a pull request from {branch} {url}".rstrip()
    tasks.say(task, "fallback_pr", f"{text} {mark}")
    tasks.report.did("pull requests opened", text)
    return True


def _requeue(tasks: Tasks, task: Task, mark: str, *, begun: bool) -> None:
    text = f"{title(task)} lost its lobster {task['assigned_to']} and is queued again"
    if not begun:
        tasks.say(task, "requeued", f"{text} {mark}")
    tasks.deregister(task)
    tasks.change(task, status="queued", assigned_to=None, assigned_at=None, broker_repos=None, broker_status=None)
    tasks.report.did("re-queued", text)


def _fail(tasks: Tasks, task: Task, mark: str, age: float, requeues: int, investigations: Investigations) -> None:
    why = f"after {requeues} re-queues" if requeues >= _MOST_REQUEUES else f"{age:.0f} minutes after it was assigned"
    text = f"{title(task)} lost its lobster {task['assigned_to']} {why}, and has failed"
    investigations.prepare(task)
    if not tasks.said(task, "failed", mark):
        tasks.say(task, "failed", f"{text} {mark}")
    tasks.deregister(task)
    moment = now().strftime("%Y-%m-%dT%H:%M:%SZ")
    tasks.change(task, status="failed", completed_at=moment, broker_repos=None, broker_status=None)
    investigations.has_failed(task)
    tasks.report.did("failed", text)


def _minutes_assigned(task: Task) -> float | None:
    """Since when it is assigned; where that is not known, since its last change: it can't be shorter."""
    since = assigned_at(task) or parse(task.get("updated_at"))
    return minutes_since(since) if since else None
