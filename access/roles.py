"""The table of routes and roles. A route without an entry is closed to everyone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from access import scope
from core.callers import Caller, Role

Scope = Callable[[HttpRequest, Caller, dict[str, Any]], None]
_PARAMETER = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class Rule:
    """The roles that may call a route; `scope` checks what agents and services ask for in the request."""

    roles: frozenset[Role]
    everyone: bool = False
    scope: Scope | None = None
    hands_out_tokens: bool = False


_AGENT, _SERVICE, _OPERATOR, _VIEWER = Role.AGENT, Role.SERVICE, Role.OPERATOR, Role.VIEWER


def _may(*roles: Role, scope: Scope | None = None, tokens: bool = False) -> Rule:
    return Rule(frozenset(roles), scope=scope, hands_out_tokens=tokens)


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
    # Tasks; an agent gets to its own task only
    "POST /api/v1/tasks": _WRITERS,
    "GET /api/v1/tasks": _may(_AGENT, _SERVICE, _OPERATOR, _VIEWER),
    "GET /api/v1/tasks/counts": _READERS,
    "GET /api/v1/tasks/{}": _may(_AGENT, _SERVICE, _OPERATOR, _VIEWER, scope=scope.own_task),
    "PATCH /api/v1/tasks/{}": _may(_AGENT, _SERVICE, _OPERATOR, scope=scope.own_progress),
    "DELETE /api/v1/tasks/{}": _WRITERS,
    "GET /api/v1/tasks/{}/events": _may(_AGENT, _SERVICE, _OPERATOR, _VIEWER, scope=scope.own_task),
    "POST /api/v1/tasks/{}/events": _may(_AGENT, _SERVICE, _OPERATOR, scope=scope.own_task),
    # Registrations and tokens
    "POST /api/v1/tasks/{}/register": _WRITERS,
    "POST /api/tasks/{}/register": _WRITERS,
    "DELETE /api/tasks/{}": _WRITERS,
    "GET /api/tasks": _READERS,
    "POST /api/token": _may(_AGENT, _OPERATOR, scope=scope.own_token, tokens=True),
    "POST /api/v1/service-token": _may(_SERVICE, _OPERATOR, scope=scope.own_service, tokens=True),
    "GET /api/token/audit": _may(_OPERATOR, _VIEWER),
    "GET /api/v1/audit": _may(_OPERATOR, _VIEWER),
    # Vault
    "GET /api/v1/sync": _READERS,
    "POST /api/v1/sync/trigger": _WRITERS,
}


def entry_of(method: str, route: str) -> str:
    """Return the key of the table for a method and one of Django's routes: parameters are `{}`."""
    return f"{method} /{_PARAMETER.sub('{}', route)}"
