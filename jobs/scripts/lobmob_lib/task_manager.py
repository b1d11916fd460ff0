"""Look after tasks: time-outs, lost lobsters, a queue that stands still."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lobwife_client import LobwifeError

from . import cluster, github
from .github import Pulls, Unknown
from .investigations import Investigations
from .script import Report, ToolError, connect, minutes_since, now, parse, parser
from .tasks import Task, Tasks, assignment, one_at_a_time, title

NAME = "lobmob-task-manager"
_QUEUE_MINUTES = 60.0
_WARN_AFTER, _FAIL_AFTER = 45, 90  # minutes, without an estimate
_SPARE_MINUTES = 15
_TOO_YOUNG_MINUTES = 2
_REQUEUE_MINUTES = 30
_MOST_REQUEUES = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    options = parser(NAME, __doc__)
    options.add_argument(
        *("--queue-minutes", "-q"),
        type=float,
        default=os.environ.get("LOBMOB_QUEUE_MINUTES") or _QUEUE_MINUTES,
        help="how long a task may wait in the queue (LOBMOB_QUEUE_MINUTES, else 60)",
    )
    chosen = options.parse_args(arguments)
    report = Report(dry_run=chosen.dry_run)
    try:
        client = connect()
        tasks = Tasks(client, report)
        active, queued = list(client.tasks(status="active")), list(client.tasks(status="queued"))
        pulls, investigations = Pulls(report), Investigations(tasks)
        for task in active:
            with one_at_a_time(task, report):
                _check_timeout(tasks, task, pulls)
        for task in queued:
            with one_at_a_time(task, report):
                _check_delay(tasks, task, chosen.queue_minutes)
        _check_orphans(tasks, active, pulls, investigations)
        investigations.finish()
    except LobwifeError as error:
        report.fail(str(error))
    return report.last_line(NAME)


# --- tasks that take longer than estimated, and tasks that nobody takes
def _limits(task: Task) -> tuple[float, float]:
    """Return after how many minutes a task is warned of, and reported as failed."""
    estimate = task.get("estimate_minutes")
    if not isinstance(estimate, int) or estimate <= 0:
        return _WARN_AFTER, _FAIL_AFTER
    return estimate + _SPARE_MINUTES, estimate * 2


def _check_timeout(tasks: Tasks, task: Task, pulls: Pulls) -> None:
    """Report an overdue task once for its assignment; its status is left as it is."""
    since = parse(task.get("assigned_at"))
    if since is None:
        return
    minutes, (warn, fail) = minutes_since(since), _limits(task)
    if minutes < min(warn, fail) or pulls.may_have_one(task):
        return
    mark = assignment(task)
    if tasks.has_event(task, "timeout_failure", mark):
        return
    if minutes >= fail:
        kind, word, limit = "timeout_failure", "has failed to end in time", fail
    elif not tasks.has_event(task, "timeout_warning", mark):
        kind, word, limit = "timeout_warning", "is taking long", warn
    else:
        return
    text = f"{title(task)} {word}: active for {minutes:.0f} minutes, the limit is {limit:.0f}"
    tasks.log_event(task, kind, f"{text} {mark}")
    tasks.report.did("timeouts reported", text)
    tasks.post_to_thread(task, text)


def _check_delay(tasks: Tasks, task: Task, limit_minutes: float) -> None:
    """Report once what waits longer than the limit."""
    created = parse(task.get("created_at"))
    if task.get("type") == "system" or created is None or minutes_since(created) < limit_minutes:
        return
    requeued = [parse(event.get("created_at")) for event in tasks.events(task, "requeued")]
    since = max([created, *(moment for moment in requeued if moment)])
    mark = f"[queued since {since:%Y-%m-%d %H:%M:%S}]"
    if minutes_since(since) < limit_minutes or tasks.has_event(task, "queue_delay", mark):
        return
    text = f"{title(task)} has been queued for {minutes_since(since):.0f} minutes"
    tasks.log_event(task, "queue_delay", f"{text} {mark}")
    tasks.report.did("delays reported", text)


# --- active tasks whose lobster is gone
def _check_orphans(tasks: Tasks, active: list[Task], pulls: Pulls, investigations: Investigations) -> None:
    """Save what an orphan did, else give it to another, else call it failed."""
    suspects = [task for task in active if task.get("assigned_to") and task.get("type") != "system"]
    if not suspects:
        return
    try:
        jobs = cluster.lobster_jobs()
    except ToolError as error:
        tasks.report.skip(error, "orphans are not looked for")
        return
    orphans = [task for task in suspects if task["assigned_to"] not in jobs]
    if orphans and not pulls.vault_repo:
        tasks.report.note("orphans are left alone: VAULT_REPO is not set, so their work can't be looked for")
        return
    for task in orphans:
        try:
            with one_at_a_time(task, tasks.report):
                if not tasks.is_leased(task):
                    _settle(tasks, task, pulls, investigations)
        except Unknown:
            continue
        except ToolError as error:
            tasks.report.fail(f"{task['task_id']} is left alone: {error}")


def _settle(tasks: Tasks, task: Task, pulls: Pulls, investigations: Investigations) -> None:
    # Where the assignment's time is not known, its last change stands for it: it can't be longer ago.
    since = parse(task.get("assigned_at")) or parse(task.get("updated_at"))
    age = minutes_since(since) if since else 0
    if age < _TOO_YOUNG_MINUTES:
        return
    mark = assignment(task)
    pull = pulls.of(task)
    if pull is not None:
        if not tasks.has_event(task, "orphan_with_pr", mark) and not tasks.has_event(task, "fallback_pr", mark):
            text = f"{title(task)} lost its lobster; its pull request {pull.url or pull.number} is open"
            tasks.log_event(task, "orphan_with_pr", f"{text} {mark}")
            tasks.report.did("left with a pull request", text)
        return
    if not tasks.has_event(task, "fallback_pr", mark) and _saved_by_pull(tasks, task, pulls, mark):
        return
    if not tasks.unchanged(task):
        return
    requeues = len(tasks.events(task, "requeued"))
    begun = tasks.has_event(task, "requeued", mark)  # by a run that was cut short
    if begun or (age < _REQUEUE_MINUTES and requeues < _MOST_REQUEUES):
        _requeue(tasks, task, mark, begun=begun)
    else:
        _fail(tasks, task, mark, age, requeues, investigations)


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
    tasks.log_event(task, "fallback_pr", f"{text} {mark}")
    tasks.report.did("pull requests opened", text)
    return True


def _requeue(tasks: Tasks, task: Task, mark: str, *, begun: bool) -> None:
    text = f"{title(task)} lost its lobster {task['assigned_to']} and is queued again"
    if not begun:
        tasks.log_event(task, "requeued", f"{text} {mark}")
    tasks.deregister(task)
    tasks.change(task, status="queued", assigned_to=None, assigned_at=None, broker_repos=None, broker_status=None)
    tasks.report.did("re-queued", text)


def _fail(tasks: Tasks, task: Task, mark: str, age: float, requeues: int, investigations: Investigations) -> None:
    why = f"after {requeues} re-queues" if requeues >= _MOST_REQUEUES else f"{age:.0f} minutes after it was assigned"
    text = f"{title(task)} lost its lobster {task['assigned_to']} {why}, and has failed"
    investigations.prepare(task)
    if not tasks.has_event(task, "failed", mark):
        tasks.log_event(task, "failed", f"{text} {mark}")
    tasks.deregister(task)
    moment = now().strftime("%Y-%m-%dT%H:%M:%SZ")
    tasks.change(task, status="failed", completed_at=moment, broker_repos=None, broker_status=None)
    investigations.has_failed(task)
    tasks.report.did("failed", text)
