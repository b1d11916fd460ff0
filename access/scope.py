"""What an agent or a service may ask for on a route that its role may take."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from broker import registrations
from core.callers import Caller
from core.errors import Forbidden, Invalid
from core.rest import json_body
from tasks.ids import parse_path_id
from tasks.schemas import LONGEST_NAME, TaskChanges

# What an agent knows better than anybody: how far its work is.
PROGRESS = frozenset({"status", "completed_at", "actor"})
_AGENTS_STATUSES = frozenset({"active", "completed", "failed", "blocked"})


def own_task(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """For an agent every task but its own is not there."""
    if caller.is_agent:
        text = str(parameters["task_id"])
        number = parse_path_id(text)
        caller.require_task(number, name=f"T{number}")


def own_progress(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    """An agent changes its own task, and of that only how far it is; raises NotFound, Forbidden."""
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
    """An agent gets the token of its own task, by whatever name of it the broker finds it under."""
    if not caller.is_agent:
        return
    text = _text_of(request, "task_id")
    if caller.task_id is not None and text == f"T{caller.task_id}":
        return  # numbers come before all names, so this can mean no other
    found = registrations.find(text)
    caller.require_task(found.task_number if found is not None else None, name=text)


def own_service(request: HttpRequest, caller: Caller, parameters: dict[str, Any]) -> None:
    caller.require_service(_text_of(request, "service"))


def _text_of(request: HttpRequest, name: str) -> str:
    value = json_body(request).get(name)
    if not value:
        raise Invalid(f"{name} required")
    text = str(value)
    if len(text) > LONGEST_NAME:
        raise Invalid(f"{name} must be at most {LONGEST_NAME} characters long")
    return text
