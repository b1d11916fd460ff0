"""Tasks for the agent that works in the vault: find out why a task failed.

An investigation is made `blocked`, gets its note, and only then is `queued`: nobody takes it half-written. A run that
is cut short leaves it blocked, and the next one goes on with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .tasks import ACTOR, Event, Task, Tasks
from .vault import NoVault, Read, Vault, VaultError, opened

_NAME = "Investigate failed task: T"
_NAMED = re.compile(re.escape(_NAME) + r"(\d{1,18})")
_LISTED_EVENTS = 20
_HEADER = re.compile(rb"\A---\r?\n.*?^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


class Investigations:
    """The investigations that are not written yet, of this run and of earlier ones."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self._waiting: dict[int, Task] | None = None
        self._failed: dict[int, Task] = {}

    def prepare(self, task: Task) -> None:
        """Make the investigation of a task, once; it is for `finish` to write and queue it."""
        if str(task.get("name") or "").startswith(_NAME) or self.tasks.events(task, "investigation"):
            return
        waiting = self._unfinished()
        made = waiting.get(task["id"])
        if made is None:
            fields = {"name": f"{_NAME}{task['id']}", "type": "system", "priority": "high", "status": "blocked"}
            if self.tasks.report.dry_run:
                return
            answer = self.tasks.client.create_task(**fields, actor=ACTOR)
            made = {**fields, "id": answer["id"], "task_id": answer["task_id"]}
            waiting[task["id"]] = made
        self.tasks.log_event(task, "investigation", f"{made['task_id']} is to find out why")

    def has_failed(self, task: Task) -> None:
        """Take note that the task is set to failed: its investigation can begin."""
        self._failed[task["id"]] = {**task, "status": "failed"}

    def finish(self) -> None:
        """Write the notes of what waits, in one commit, and queue them."""
        unfinished = self._unfinished()
        if not unfinished:
            return
        blocked = {task["id"]: task for task in self._blocked()}
        ready = {}
        for number, investigation in unfinished.items():
            failed = self._failed.get(number) or self.tasks.client.task(number)
            if failed["status"] == "failed" and investigation["id"] in blocked:
                ready[number] = (blocked[investigation["id"]], failed)
            elif failed["status"] in ("completed", "cancelled") and not self.tasks.report.dry_run:
                self.tasks.client.cancel_task(investigation["id"])
        if not ready or self.tasks.report.dry_run:
            return
        notes = {made["id"]: (made, failed, self.tasks.history(failed)) for made, failed in ready.values()}
        try:
            with opened(self.tasks.client) as vault:
                _write(vault, notes)
        except NoVault as error:
            self.tasks.report.note(f"{len(notes)} investigations wait: {error}")
            return
        except VaultError as error:
            self.tasks.report.fail(f"{len(notes)} investigations wait: {error}")
            return
        for made, failed in ready.values():
            self.tasks.change(made, status="queued")
            self.tasks.report.did("investigations queued", f"{made['task_id']} investigates {failed['task_id']}")

    def _blocked(self) -> list[Task]:
        return list(self.tasks.client.tasks(status="blocked", type="system"))

    def _unfinished(self) -> dict[int, Task]:
        """Return them by their task. One that we queued before was blocked by somebody else, who decides."""
        if self._waiting is None:
            self._waiting = {}
            for task in self._blocked():
                named = _NAMED.fullmatch(str(task["name"]))
                events = self.tasks.history(task) if named else []
                ours = any(event["event_type"] == "created" and event["actor"] == ACTOR for event in events)
                queued = any(event["event_type"] == "updated" and event["actor"] == ACTOR for event in events)
                if named and ours and not queued:
                    self._waiting[int(named[1])] = task
        return self._waiting


def _write(vault: Vault, notes: Mapping[int, tuple[Task, Task, list[Event]]]) -> None:
    """Commit the notes; raises VaultError. A note that is there keeps its header: it is the sync's."""

    def write(_: str, read: Read) -> tuple[Mapping[str, bytes], str]:
        if vault.unpushed_differs():
            raise VaultError("the vault waits for its next sync")
        files = {}
        for made, failed, events in notes.values():
            path = f"010-tasks/active/{made['task_id']}.md"
            old = read(path)
            header = _HEADER.match(old or b"")
            content = (header[0] if header else _header(made).encode()) + _body(made, failed, events).encode()
            if content != old:
                files[path] = content
        return files, f"[task-manager] Describe {len(files)} investigation(s)\n"

    vault.publish(write)


def _header(made: Task) -> str:
    keys = {name: made[name] for name in ("name", "type", "status")}
    lines = [f"id: {made['task_id']}", f"name: '{keys['name']}'", f"type: {keys['type']}", f"status: {keys['status']}"]
    return "\n".join(["---", *lines, f"created: '{made['created_at']}'", f"priority: {made['priority']}", "---", ""])


def _body(made: Task, failed: Task, events: list[Event]) -> str:
    number = failed["task_id"]
    repos = ", ".join(failed.get("repos") or []) or "none"
    history = "\n".join(
        f"- {event['created_at']} {event['event_type']} ({event['actor'] or 'unknown'}): {_line(event['detail'])}"
        for event in reversed(events[:_LISTED_EVENTS])
        if event.get("created_at")
    )
    return f"""
# {made["name"]}

## What happened
- task: {number}, {_line(failed["name"])}
- type: {failed["type"]}, repositories: {repos}
- assigned to: {_line(failed.get("assigned_to"))}, at {_line(failed.get("assigned_at"))}

It was active, and no Kubernetes job of its lobster is left. It has no open pull request, and no branch
of the vault holds its work. It was set to `failed`.

{history}

## Where to look
- its note: `010-tasks/failed/{number}.md`
- logs: `020-logs/lobboss/`, and the lobster's own folder in `020-logs/lobsters/`
- `kubectl get events -n lobmob`, and pods of {_line(failed.get("assigned_to"))} if any are left

## What to do
Find and repair the cause, so that the next task does not fail in the same way. Do not redo the work of
{number}: who asked for it decides whether it is queued again. Write what you found below.
"""


def _line(text: object) -> str:
    return " ".join(str(text if text is not None else "unknown").split())[:300]
