"""The types of events and the fields of each: what docs/events.md promises to readers.

A type and its fields stay; new types and new fields may come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.errors import Invalid

_MOST_QUOTED = 100


@dataclass(frozen=True)
class EventType:
    """A type: what happened, and the fields of its `data`. `is_audit`: for operators and viewers alone."""

    name: str
    words: str
    subject: str
    fields: Mapping[str, str]
    is_audit: bool = False


_TASK = {
    "task_id": "number of the task",
    "event_id": "number of the entry in the task's history; null where it has none",
    "status": "status of the task after it",
    "detail": "the same in a sentence, or null",
}
_LEASE = _TASK | {
    "fence": "fence of the lease",
    "attempt": "number of the task's leases so far",
    "holder": "identity that claimed the task",
    "runner": "name that the holder gave itself, or empty",
    "expires_at": "time at which the lease expires, or expired, UTC",
}
_RUN = {
    "run_id": "number of the run",
    "job": "name of its job",
    "state": "state of the run after it",
    "trigger": "schedule, rest, operator, command, retry or catch-up",
    "requested_by": "who asked for it",
    "scheduled_for": "time at which the schedule wanted it, UTC; null for others",
    "attempt": "1, and one more for each retry",
    "retry_of": "number of the run that it repeats, or null",
    "exit_code": "exit code of the script, or null",
    "signal": "signal that ended the script, or null",
    "duration": "seconds, or null",
    "note": "why the run stands where it does, or empty",
}
_TOKEN = {
    "requested_id": "id that was asked with: a task, a service, or a route",
    "task_id": "number of the task, or null",
    "outcome": "issued, cached, refused, failed, revoked or done",
    "repos": "repositories, or null",
    "permissions": "permissions of the token, or null",
    "expires_at": "time at which the token expires, UTC, or null",
    "reason": "why, or null",
}
_VAULT = {
    "reason": "what the sync was for",
    "seconds": "how long it took",
    "full": "true where every note was compared",
    "files": "number of files that were written or taken in",
    "commit": "commit that was made, or empty",
    "pushed": "true where the remote has it",
    "error": "what went wrong, or empty",
}

_ALL = (
    EventType(
        "task.created",
        "A task was created.",
        "T42",
        _TASK
        | {
            "name": "name of the task",
            "type": "type of the task",
            "priority": "priority of the task",
            "repos": "repositories, or null",
        },
    ),
    EventType(
        "task.updated",
        "Fields of a task were changed.",
        "T42",
        _TASK | {"changes": "for each field that changed a list of its old and its new value; null where none did"},
    ),
    EventType("task.cancelled", "A task was cancelled.", "T42", _TASK),
    EventType("task.blocked", "A task that it depends on failed or was cancelled.", "T42", _TASK),
    EventType("task.unblocked", "A task was queued again: it depends on no lost task any more.", "T42", _TASK),
    EventType(
        "task.logged",
        "Any other entry of a task's history: what its agent reports, links, results, notes, registrations.",
        "T42",
        _TASK | {"event_type": "type of the entry: progress, pr_opened, result_written …"},
    ),
    EventType(
        "question.asked",
        "An agent asked people a question.",
        "T42",
        _TASK
        | {
            "question_id": "number of the question",
            "question": "what was asked",
            "choices": "list of the answers that were offered; empty where none were",
            "asked_by": "who asked",
        },
    ),
    EventType(
        "question.answered",
        "A question was answered.",
        "T42",
        _TASK | {"question_id": "number of the question", "answer": "the answer", "answered_by": "who answered"},
    ),
    EventType("lease.claimed", "A task was claimed.", "T42", _LEASE),
    EventType(
        "lease.released",
        "The holder handed the task back.",
        "T42",
        _LEASE | {"outcome": "status that the release asked for", "reason": "why, or empty"},
    ),
    EventType("lease.expired", "A lease expired: its holder gave no sign of life.", "T42", _LEASE),
    EventType("lease.taken_away", "A task was taken from its holder.", "T42", _LEASE | {"reason": "why, or empty"}),
    EventType("lease.cancelled", "A lease ended because its task was cancelled.", "T42", _LEASE),
    EventType("run.queued", "A run was asked for, or queued again.", "run 17", _RUN),
    EventType("run.started", "The script of a run was started.", "run 17", _RUN),
    EventType("run.ended", "A run ended: success, failed, timeout, error or skipped.", "run 17", _RUN),
    EventType("run.aborted", "A run was aborted.", "run 17", _RUN),
    EventType("run.lost", "The daemon died while the run was running.", "run 17", _RUN),
    EventType(
        "budget.spent",
        "A budget was spent.",
        "the budget of T42",
        {
            "scope": "task, type, repo or all",
            "name": "task, type or repository that spent it; empty for all",
            "since": "first day of the period",
            "until": "first day after the period, or null",
            "limit_usd": "limit in USD",
            "spent_usd": "what was spent, in USD",
        },
    ),
    EventType("vault.pushed", "A sync of the vault pushed.", "vault", _VAULT),
    EventType("vault.failed", "A sync of the vault failed, or the remote refused it.", "vault", _VAULT),
    EventType(
        "database.restored",
        "The database was put back to an earlier moment: what readers have seen since then is undone.",
        "database",
        {},
    ),
    EventType("token.issued", "A GitHub token was handed out.", "T42", _TOKEN, is_audit=True),
    EventType("token.refused", "A GitHub token was refused, or could not be made.", "T42", _TOKEN, is_audit=True),
    EventType("token.revoked", "A GitHub token was revoked.", "T42", _TOKEN, is_audit=True),
    EventType("registration.made", "A task was registered for tokens.", "T42", _TOKEN, is_audit=True),
    EventType("registration.ended", "A registration for tokens was ended.", "T42", _TOKEN, is_audit=True),
    EventType("access.refused", "A call was refused.", "GET /api/v1/runs", _TOKEN, is_audit=True),
    EventType(
        "key.created",
        "An API key was made.",
        "ci",
        {
            "name": "name of the key",
            "role": "role of the key",
            "task_id": "number of its task, or null",
            "service": "service that it gets tokens as, or empty",
            "expires_at": "time at which it expires, UTC, or null",
        },
        is_audit=True,
    ),
    EventType("key.revoked", "An API key was revoked.", "ci", {"name": "name of the key"}, is_audit=True),
    EventType(
        "admin.changed",
        "Somebody changed something in the admin, or a job, secret, webhook or the access mode by REST or a command.",
        "nightly-report",
        {
            "model": "kind of thing, such as jobs.job; null for all jobs at once",
            "object_id": "its id, or null",
            "object": "its name",
            "action": "added, changed or deleted",
            "message": "what was changed",
        },
        is_audit=True,
    ),
)
TYPES: Mapping[str, EventType] = {each.name: each for each in _ALL}
AUDIT = frozenset(each.name for each in _ALL if each.is_audit)


def expand(patterns: Iterable[str]) -> frozenset[str]:
    """Return the types that these name, each a type or the beginning of some, as `run.*`; raises Invalid."""
    names: set[str] = set()
    for pattern in patterns:
        matching = {name for name in TYPES if name == pattern or _begins(name, pattern)}
        if not matching:
            raise Invalid(f"types has {pattern[:_MOST_QUOTED]!r}, which is no type of event; docs/events.md lists them")
        names |= matching
    return frozenset(names)


def _begins(name: str, pattern: str) -> bool:
    return pattern.endswith("*") and name.startswith(pattern[:-1])
