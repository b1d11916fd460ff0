"""The table of routes and roles, and what agents and services may ask for on them.

A route without an entry is closed to everyone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from broker import registrations
from broker.tokens.scope import agent_permissions, at_most
from core.callers import Caller, Role
from core.database.clock import database_now
from core.errors import Forbidden, Invalid, NotFound
from core.rest import json_body, validate
from tasks.ids import parse_path_id
from tasks.leases.queries import live_lease
from tasks.models import Task, TaskPlan, read_repos
from tasks.queries import priority_rank
from tasks.questions.api import parse_question_id
from tasks.questions.queries import get_question
from tasks.schemas import LONGEST_NAME, NewTask, TaskChanges

Scope = Callable[[HttpRequest, Caller, dict[str, Any]], None]
_PARAMETER = re.compile(r"<[^>]*>")
_PROGRESS = frozenset({"status", "completed_at", "actor"})
_SUBTASK = frozenset(
    {
        *("name", "body", "type", "priority", "model", "repos", "estimate_minutes", "requires_qa", "workflow", "actor"),
        *("parent", "depends_on", "group", "not_before"),
    }
)
_AGENT, _SERVICE, _OPERATOR, _VIEWER = Role.AGENT, Role.SERVICE, Role.OPERATOR, Role.VIEWER
_RUNNER = Role.RUNNER
_AGENTS_STATUSES = frozenset({"active", "completed", "failed", "blocked"})


@dataclass(frozen=True, slots=True)
class Rule:
    """The roles that may call a route; `scope` checks what agents and services ask for in the request.

    `keeps_answer` is False where an answer may hold a secret: an Idempotency-Key counts for nothing there.
    """

    roles: frozenset[Role]
    everyone: bool = False
    scope: Scope | None = None
    hands_out_tokens: bool = False
    after_lease: bool = False  # also with the key of a lease that is over, which is told so
    keeps_answer: bool = True
    streams: bool = False  # a call may last: who made it is asked again meanwhile
    passes_on: bool = False  # a call is answered by calls of other routes, each of which is admitted by its own rule


def _own_task(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Raise NotFound if an agent asks for a task that is not its own."""
    if caller.is_agent:
        text = str(parameters["task_id"])
        number = parse_path_id(text)
        caller.require_task(number, name=f"T{number}")


def _held_task(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """As `_own_task`; for a runner the tasks exist that it holds a lease of. Raises NotFound."""
    _own_task(request, caller, parameters)
    _require_held(caller, parse_path_id(str(parameters["task_id"])))


def _held_question(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Raise NotFound if an agent or runner asks for a question about a task that is not its own."""
    if caller.is_agent or caller.role is _RUNNER:
        number = parse_question_id(str(parameters["question_id"]))
        question = get_question(number)
        if not caller.may_see(question.task_id):
            raise NotFound(f"Question {number} not found")
        _require_held(caller, question.task_id)


def _require_held(caller: Caller, number: int) -> None:
    if caller.role is not _RUNNER:
        return
    lease = live_lease(number)
    if lease is None or lease.holder != caller.name or not lease.is_alive(database_now()):
        raise NotFound(f"{caller.name} holds no lease of task T{number}")


def _own_progress(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Let an agent change the progress of its own task only; raises NotFound, Forbidden."""
    if not caller.is_agent:
        return
    _own_task(request, caller, parameters)
    body = json_body(request)
    refused = sorted((body.keys() & TaskChanges.model_fields.keys()) - _PROGRESS)
    if refused:
        raise Forbidden(f"an agent may set status and completed_at of its task, not {', '.join(refused)}")
    status = body.get("status")
    if status is not None and str(status) not in _AGENTS_STATUSES:
        raise Forbidden(f"an agent may set its task to {', '.join(sorted(_AGENTS_STATUSES))}")


def _own_cost(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Raise NotFound if an agent reports what another task has used."""
    if caller.is_agent:
        text = _text_of(request, "task_id")
        number = parse_path_id(text)
        caller.require_task(number, name=f"T{number}")


def _own_token(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Raise NotFound if an agent asks for the token of another task, under any name that the broker knows it by."""
    if not caller.is_agent:
        return
    text = _text_of(request, "task_id")
    if caller.task_id is not None and text == f"T{caller.task_id}":
        return  # saves the look-up: a number is never taken for a name
    registration = registrations.find(text)
    caller.require_task(registration.task_number if registration is not None else None, name=text)


def _own_service(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Raise Forbidden if a service asks for the token of another one."""
    caller.require_service(_text_of(request, "service"))


def _text_of(request: HttpRequest, name: str) -> str:
    value = json_body(request).get(name)
    if not value:
        raise Invalid(f"{name} required")
    text = str(value)
    if len(text) > LONGEST_NAME:
        raise Invalid(f"{name} must be at most {LONGEST_NAME} characters long")
    return text


def _own_subtask(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Let an agent create tasks under its own, with no more repositories and permissions; raises Forbidden, Invalid.

    A runner creates them so under one that it holds, which `parent` names; raises NotFound.
    """
    if caller.role not in (_AGENT, _RUNNER):
        return
    body = json_body(request)
    refused = sorted((body.keys() & NewTask.model_fields.keys()) - _SUBTASK)
    if refused:
        raise Forbidden(
            f"an agent may set {', '.join(sorted(_SUBTASK))} of a task under its own, not {', '.join(refused)}"
        )
    fields = validate(NewTask, body)
    if caller.role is _RUNNER:
        if fields.parent is None:
            raise Invalid("parent required: a runner creates tasks under one that it holds")
        _require_held(caller, fields.parent)
    elif fields.parent not in (None, caller.task_id):
        raise Forbidden(f"an agent creates tasks under its own, T{caller.task_id}, alone")
    own = Task.objects.filter(pk=fields.parent or caller.task_id or 0).first()
    if own is None:
        raise Forbidden("this agent has no task under which it could create one")
    allowed = {name.lower() for name in read_repos(own.broker_repos) or read_repos(own.repos) or ()}
    wider = [name for name in fields.repos or () if name.lower() not in allowed]
    if wider:
        raise Forbidden(f"repos has {wider[0]}, which task T{own.pk} doesn't have")
    limits = agent_permissions(registrations.of(own).lobster_type)
    if not all(at_most(level, limits.get(name)) for name, level in agent_permissions(fields.type).items()):
        raise Forbidden(f"a task of type {fields.type[:100]} would get more permissions than T{own.pk} has")
    is_said = "priority" in fields.model_fields_set
    if is_said and priority_rank(fields.priority) < priority_rank(own.priority):
        raise Forbidden(f"priority {fields.priority} is above {own.priority[:100]}, that of task T{own.pk}")
    plan = TaskPlan.objects.filter(pk=own.pk).first()
    if fields.group and (plan is None or fields.group != plan.group):
        raise Forbidden(
            f"group {fields.group[:100]} is not that of task T{own.pk}: it would hold up the tasks of others"
        )
    family = set(TaskPlan.objects.filter(parent_id=own.pk).values_list("pk", flat=True)) | {own.pk}
    foreign = [number for number in fields.depends_on or () if number not in family]
    if foreign:
        raise Forbidden(f"depends_on has T{foreign[0]}, which is neither this agent's task nor one under it")


def _may(
    *roles: Role,
    scope: Scope | None = None,
    tokens: bool = False,
    after_lease: bool = False,
    keeps_answer: bool = True,
    streams: bool = False,
    passes_on: bool = False,
) -> Rule:
    return Rule(
        frozenset(roles),
        scope=scope,
        hands_out_tokens=tokens,
        after_lease=after_lease,
        keeps_answer=keeps_answer and not tokens,
        streams=streams,
        passes_on=passes_on,
    )


_EVERYONE = Rule(frozenset(Role), everyone=True)
_READERS = _may(_SERVICE, _OPERATOR, _VIEWER)
_OPERATORS = _may(_OPERATOR)
_WRITERS = _may(_SERVICE, _OPERATOR)

RULES: dict[str, Rule] = {
    # These hold no secrets, and probes have no credentials.
    "GET /health": _EVERYONE,
    "GET /api/openapi.json": _EVERYONE,
    "GET /api/docs": _EVERYONE,
    "GET /api/status": _READERS,
    "GET /metrics": _READERS,
    # Jobs and their runs
    "GET /api/jobs": _READERS,
    "GET /api/jobs/{}": _READERS,
    "POST /api/jobs/{}/trigger": _OPERATORS,
    "POST /api/jobs/{}/enable": _OPERATORS,
    "POST /api/jobs/{}/disable": _OPERATORS,
    "GET /api/v1/jobs/{}/next": _READERS,
    "POST /api/v1/jobs/{}/runs": _OPERATORS,
    "GET /api/v1/runs": _READERS,
    "GET /api/v1/runs/{}": _READERS,
    "GET /api/v1/runs/{}/output": _may(_OPERATOR, _VIEWER),
    "POST /api/v1/runs/{}/abort": _OPERATORS,
    "POST /api/v1/runs/{}/retry": _OPERATORS,
    "POST /api/v1/runs/pause": _OPERATORS,
    "POST /api/v1/runs/resume": _OPERATORS,
    # The feed; an agent gets the events of its own task, services none of the audit (access/event_stream.py)
    "GET /api/v1/events": _may(_AGENT, _SERVICE, _OPERATOR, _VIEWER, streams=True),
    # Tasks; an agent gets to its own task only, a runner to those that it holds
    "POST /api/v1/tasks": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, scope=_own_subtask),
    "GET /api/v1/tasks": _may(_AGENT, _SERVICE, _OPERATOR, _VIEWER),
    "GET /api/v1/tasks/counts": _READERS,
    "GET /api/v1/tasks/{}": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, _VIEWER, scope=_held_task),
    "PATCH /api/v1/tasks/{}": _may(_AGENT, _SERVICE, _OPERATOR, scope=_own_progress),
    "DELETE /api/v1/tasks/{}": _WRITERS,
    "GET /api/v1/tasks/{}/events": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, _VIEWER, scope=_held_task),
    "POST /api/v1/tasks/{}/events": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, scope=_held_task),
    # Leases; a service or runner gets to the leases that it took
    "POST /api/v1/tasks/claim": _may(_RUNNER, _SERVICE, _OPERATOR, keeps_answer=False),
    "POST /api/v1/tasks/{}/heartbeat": _may(
        _AGENT, _RUNNER, _SERVICE, _OPERATOR, scope=_own_task, after_lease=True, keeps_answer=False
    ),
    "POST /api/v1/tasks/{}/release": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, scope=_own_task, after_lease=True),
    "POST /api/v1/tasks/{}/links": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, scope=_held_task),
    "POST /api/v1/tasks/{}/result": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, scope=_held_task),
    "GET /api/v1/tasks/{}/note": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, _VIEWER, scope=_held_task),
    "PUT /api/v1/tasks/{}/note": _may(_AGENT, _SERVICE, _OPERATOR, scope=_own_task),
    # Questions; a runner gets to the tasks that it holds
    "POST /api/v1/tasks/{}/questions": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, scope=_held_task),
    "GET /api/v1/tasks/{}/questions": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, _VIEWER, scope=_held_task),
    "GET /api/v1/questions": _READERS,
    "GET /api/v1/questions/{}": _may(_AGENT, _RUNNER, _SERVICE, _OPERATOR, _VIEWER, scope=_held_question, streams=True),
    "POST /api/v1/questions/{}/answer": _WRITERS,
    # Costs
    "POST /api/v1/costs": _may(_AGENT, _SERVICE, _OPERATOR, scope=_own_cost),
    "GET /api/v1/costs": _may(_AGENT, _SERVICE, _OPERATOR, _VIEWER),
    "GET /api/v1/costs/summary": _READERS,
    # Registrations and tokens
    "POST /api/v1/tasks/{}/register": _WRITERS,
    "POST /api/tasks/{}/register": _WRITERS,
    "DELETE /api/tasks/{}": _WRITERS,
    "GET /api/tasks": _READERS,
    "POST /api/token": _may(_AGENT, _OPERATOR, scope=_own_token, tokens=True),
    "POST /api/v1/service-token": _may(_SERVICE, _OPERATOR, scope=_own_service, tokens=True),
    "GET /api/token/audit": _may(_OPERATOR, _VIEWER),
    "GET /api/v1/audit": _may(_OPERATOR, _VIEWER),
    # Vault
    "GET /api/v1/sync": _READERS,
    "POST /api/v1/sync/trigger": _WRITERS,
    # Tools of models; each calls routes from above, for its caller
    "POST /mcp": _may(*Role, after_lease=True, keeps_answer=False, passes_on=True),
}


def entry_of(method: str, route: str) -> str:
    """Return the key of the table for a method and one of Django's routes: parameters are `{}`."""
    return f"{method} /{_PARAMETER.sub('{}', route)}"
