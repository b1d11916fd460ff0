"""Restrictions of what agents and services may ask for on the routes that their role may call."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from broker import registrations
from core.callers import Caller
from core.errors import Forbidden, Invalid
from core.rest import json_body
from tasks.ids import parse_path_id
from tasks.schemas import LONGEST_NAME, TaskChanges

PROGRESS = frozenset({"status", "completed_at", "actor"})
_AGENTS_STATUSES = frozenset({"active", "completed", "failed", "blocked"})


def own_task(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Raise NotFound if an agent asks for a task that is not its own."""
    if caller.is_agent:
        text = str(parameters["task_id"])
        number = parse_path_id(text)
        caller.require_task(number, name=f"T{number}")


def own_progress(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Let an agent change the progress of its own task only; raises NotFound, Forbidden."""
    if not caller.is_agent:
        return
    own_task(request, caller, parameters)
    body = json_body(request)
    refused = sorted((body.keys() & TaskChanges.model_fields.keys()) - PROGRESS)
    if refused:
        raise Forbidden(f"an agent may set status and completed_at of its task, not {', '.join(refused)}")
    status = body.get("status")
    if status is not None and str(status) not in _AGENTS_STATUSES:
        raise Forbidden(f"an agent may set its task to {', '.join(sorted(_AGENTS_STATUSES))}")


def own_token(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """Raise NotFound if an agent asks for the token of another task, under any name that the broker knows it by."""
    if not caller.is_agent:
        return
    text = _text_of(request, "task_id")
    if caller.task_id is not None and text == f"T{caller.task_id}":
        return  # saves the look-up: a number is never taken for a name
    registration = registrations.find(text)
    caller.require_task(registration.task_number if registration is not None else None, name=text)


def own_service(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
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
