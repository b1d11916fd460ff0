"""Why does a task get no token: each step of the way to one, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker import registrations
from broker.github import app
from broker.models import GitHubState, TokenAudit
from broker.registrations import Registration
from broker.tokens.issue import scope_of
from broker.tokens.scope import bare_names
from core.errors import LobwifeError
from core.timestamps import utc_now
from tasks.models import Task

_ENTRIES = 5


@dataclass(frozen=True)
class Step:
    """One step: whether it is passed, and what was found."""

    passed: bool
    found: str


def steps(task_id: str) -> Iterator[Step]:
    """The steps in the order in which a call takes them; none after the first that isn't passed."""
    trouble = app.trouble()
    yield Step(not trouble, trouble or "a GitHub App is configured")
    if trouble:
        return
    registration = registrations.find(task_id)
    if registration is None:
        yield Step(False, _nobody(task_id))
        return
    yield Step(True, f"{task_id} is {_named(registration)}")
    refusal = registration.refusal(task_id)
    yield Step(refusal is None, _with_a_way(refusal, registration) if refusal else _standing(registration))
    if refusal is not None:
        return
    yield from _scope(registration)


def recent(task_id: str) -> list[str]:
    """The newest entries of the audit about it, one line each."""
    registration = registrations.find(task_id)
    number = registration.task_number if registration is not None else None
    about = TokenAudit.objects.filter(task_id=task_id)
    if number is not None:
        about = about | TokenAudit.objects.filter(task_number=number)
    return [
        f"{entry.created_at[:19]} {entry.action} {entry.outcome or ''} {entry.reason or ''}".rstrip()
        for entry in about.order_by("-pk")[:_ENTRIES]
    ]


def _nobody(task_id: str) -> str:
    task = registrations.find_task(task_id)
    if task is not None:
        return f"{task_id} is task {task.task_id}, which has no repositories registered"
    return f"no task with repositories has {task_id} as its number, slug, name or assignee; nor is it a legacy id"


def _named(registration: Registration) -> str:
    if registration.task_number is None:
        return "a legacy registration"
    task = Task.objects.get(pk=registration.task_number)
    return f"task {task.task_id} ({task.status})"


def _with_a_way(refusal: str, registration: Registration) -> str:
    if registration.task_number is None or not refusal.endswith("not registered"):
        return refusal
    path = f"/api/v1/tasks/{registration.task_number}/register"
    return f'{refusal}: POST {path} with {{"repos": […]}} registers it'


def _standing(registration: Registration) -> str:
    ends = registration.expires_at
    until = f"until {ends:%Y-%m-%d %H:%M} UTC" if ends is not None else "while the task is not over"
    return f"registered for {', '.join(registration.repos)}, {until}"


def _scope(registration: Registration) -> Iterator[Step]:
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
        True, f"the owner is {owner}" if owner else "the owner is not known yet: GitHub tells at the first token"
    )
    state = GitHubState.load()
    blocked = state.blocked_until is not None and state.blocked_until > utc_now()
    yield Step(not blocked, f"GitHub said to wait until {state.blocked_until:%H:%M:%S} UTC" if blocked else "no limit")
