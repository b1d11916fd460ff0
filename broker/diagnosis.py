"""The steps on the way to a token, each explained, for a task that gets none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from broker import registrations
from broker.github import app
from broker.models import GitHubState, TokenAudit
from broker.registrations import Registration
from broker.tokens.issue import scope_of
from broker.tokens.scope import bare_names
from core.errors import LobwifeError
from core.timestamps import utc_now
from tasks.models import OVER

_ENTRIES = 5


@dataclass(frozen=True)
class Step:
    """One step, and a sentence about its result."""

    passed: bool
    sentence: str


def judged_by() -> list[str]:
    """Return whose settings the steps are judged by: a shell often lacks the variables that the service has."""
    here = f"App {settings.GH_APP_ID}" if settings.GH_APP_ID else "no GH_APP_ID"
    sentences = [f"Judged by the settings of this command: {here}, state directory {settings.STATE_DIR}."]
    row = GitHubState.objects.filter(pk=1).first()
    if app.problem() is not None and row is not None and row.last_mint_at is not None:
        sentences.append(
            f"The service itself got a token at {row.last_mint_at:%Y-%m-%d %H:%M} UTC, so it has an App: run this with"
            " the variables that the service has."
        )
    return sentences


def steps(task_id: str) -> Iterator[Step]:
    """Yield the steps in the order in which a call takes them, up to the first that fails."""
    problem = app.problem()
    yield Step(problem is None, problem or "a GitHub App is configured")
    if problem is not None:
        return
    registration = registrations.find(task_id)
    if registration is None:
        yield Step(False, _unknown(task_id))
        return
    number = registration.task_number
    holder = "a legacy registration" if number is None else f"task T{number} ({registration.task_status})"
    yield Step(True, f"{task_id} is {holder}")
    refusal = registration.refusal(task_id)
    if refusal is not None:
        if number is not None and registration.task_status not in OVER:
            refusal += f': POST /api/v1/tasks/{number}/register with {{"repos": […]}} registers it'
        yield Step(False, refusal)
        return
    expires_at = registration.expires_at
    until = f"until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at is not None else "while the task is not over"
    yield Step(True, f"registered for {', '.join(registration.repos)}, {until}")
    yield from _scope_steps(registration)


def recent(task_id: str) -> list[str]:
    """Return the newest entries of the audit about an id, one line each."""
    registration = registrations.find(task_id)
    number = registration.task_number if registration is not None else None
    entries = TokenAudit.objects.filter(task_id=task_id)
    if number is not None:
        entries = entries | TokenAudit.objects.filter(task_number=number)
    return [
        f"{entry.created_at[:19]} {entry.action} {entry.outcome or ''} {entry.reason or ''}".rstrip()
        for entry in entries.order_by("-pk")[:_ENTRIES]
    ]


def _unknown(task_id: str) -> str:
    task = registrations.find_task(task_id)
    if task is not None:
        return f"{task_id} is task {task.task_id}, which has no repositories registered"
    return f"no task with repositories has {task_id} as its number, slug, name or assignee; nor is it a legacy id"


def _scope_steps(registration: Registration) -> Iterator[Step]:
    owner = GitHubState.known_owner()
    try:
        scope = scope_of(registration)
        bare_names(registration.repos, owner)
    except LobwifeError as error:
        yield Step(False, str(error))
        return
    permissions = ", ".join(f"{name}: {level}" for name, level in scope.permissions.items())
    yield Step(True, f"permissions for {registration.lobster_type!r}: {permissions}")
    yield Step(
        True,
        f"the owner is {owner}" if owner else "the owner is not known yet: GitHub is asked with the first token",
    )
    state = GitHubState.load()
    blocked = state.blocked_until is not None and state.blocked_until > utc_now()
    yield Step(not blocked, f"GitHub said to wait until {state.blocked_until:%H:%M:%S} UTC" if blocked else "no limit")
