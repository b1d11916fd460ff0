"""REST routes of the token broker."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from django.http import HttpRequest, HttpResponse
from ninja import Router

from broker import queries, services
from broker.schemas import (
    AuditEntry,
    AuditPage,
    LegacyEntry,
    NewRegistration,
    Registered,
    ServiceTokenRequest,
    TokenAnswer,
    TokenRequest,
)
from broker.tokens import issue
from broker.tokens.scope import read_permissions
from core.callers import caller_of
from core.errors import Invalid
from core.rest import (
    Problem,
    integer_parameter,
    json_body,
    json_response,
    parameters,
    query_parameter,
    request_body,
    validate,
)
from tasks.api import check_exists
from tasks.api import router as tasks_router
from tasks.ids import parse_path_id
from tasks.queries import task_detail, version
from tasks.schemas import TaskChanges, TaskUpdated
from tasks.services import get_task

router = Router(tags=["broker"])
_UNKNOWN_TYPE = "unknown"
_FILTERS = ("task_id", "action", "outcome", "identity", "address", "token_sha256")
_PROBLEMS: dict[int, Any] = {400: Problem, 413: Problem, 503: Problem}


@tasks_router.patch(
    "/v1/tasks/{task_id}",
    response={
        **{200: TaskUpdated, 400: Problem, 404: Problem, 409: Problem},
        **{412: Problem, 413: Problem, 503: Problem},
    },
    openapi_extra={
        **request_body(TaskChanges, {"status": "active", "assigned_to": "agent-7", "actor": "agent-7"}),
        "parameters": parameters("If-Match", place="header"),
    },
)
def update_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """Set the fields that are sent; null clears one that may be empty. Broker fields are a registration.

    With `If-Match`, the ETag that a GET had, only if nobody changed the task since; the answer has the new ETag.
    """
    data = json_body(request)
    number = parse_path_id(task_id)
    check_exists(number)
    body = validate(TaskChanges, data)
    changes = {name: getattr(body, name) for name in data if name in body.model_fields_set and name != "actor"}
    if_match = request.META.get("HTTP_IF_MATCH")
    updated = services.update_task(
        task_id=number, changes=changes, actor=body.actor, caller=caller_of(request), if_match=if_match
    )
    response = json_response({"id": number, "task_id": f"T{number}", "updated": updated})
    if if_match is not None and (task := task_detail(number)) is not None:
        response["ETag"] = version(task)
    return response


@router.post(
    "/v1/tasks/{task_id}/register",
    response={200: Registered, 404: Problem, 422: Problem, **_PROBLEMS},
    openapi_extra=request_body(NewRegistration),
)
def register_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """Allow a task tokens for these repositories."""
    data = json_body(request)
    number = parse_path_id(task_id)
    get_task(number)
    services.register_task(task_id=number, caller=caller_of(request), **_registration(data))
    return json_response({"status": "registered", "task_id": f"T{number}"})


@router.post(
    "/tasks/{task_id}/register",
    response={200: Registered, 422: Problem, **_PROBLEMS},
    openapi_extra=request_body(NewRegistration),
)
def register_named(request: HttpRequest, task_id: str) -> HttpResponse:
    """Register a task named by slug, name or `T42`; where there is none, the id itself."""
    text = exact_id(request, task_id)
    services.register_named(text=text, caller=caller_of(request), **_registration(json_body(request)))
    return json_response({"status": "registered", "task_id": text})


@router.delete("/tasks/{task_id}", response={200: Registered, 503: Problem})
def deregister(request: HttpRequest, task_id: str) -> HttpResponse:
    """End the registration under this id, and the one that its task holds."""
    text = exact_id(request, task_id)
    services.deregister_named(text=text, caller=caller_of(request))
    return json_response({"status": "removed", "task_id": text})


@router.get("/tasks", response={200: dict[str, LegacyEntry], 503: Problem})
def list_legacy(request: HttpRequest) -> HttpResponse:
    """Return the registrations that no task holds, keyed by id."""
    return json_response(queries.legacy_registrations())


@router.post(
    "/token",
    response={200: TokenAnswer, 403: Problem, 404: Problem, 422: Problem, 502: Problem, **_PROBLEMS},
    openapi_extra=request_body(TokenRequest),
)
def issue_token(request: HttpRequest) -> HttpResponse:
    """Return a GitHub token limited to the repositories of a registration."""
    body = validate(TokenRequest, json_body(request))
    if not body.task_id:
        raise Invalid("task_id required")
    permissions = read_permissions(body.permissions)
    caller = caller_of(request)
    only_task = (caller.task_id or 0) if caller.is_agent else None
    return _token_answer(
        issue.issue_token(task_id=body.task_id, caller=caller, permissions=permissions, only_task=only_task)
    )


@router.post(
    "/v1/service-token",
    response={200: TokenAnswer, 403: Problem, 502: Problem, **_PROBLEMS},
    openapi_extra=request_body(ServiceTokenRequest),
)
def issue_service_token(request: HttpRequest) -> HttpResponse:
    """Return a GitHub token for all repositories of the installation, for a named service."""
    body = validate(ServiceTokenRequest, json_body(request))
    if not body.service:
        raise Invalid("service required")
    return _token_answer(issue.issue_service_token(service=body.service, caller=caller_of(request)))


@router.get(
    "/token/audit", response={200: list[AuditEntry], 503: Problem}, openapi_extra={"parameters": parameters("task_id")}
)
def contract_audit(request: HttpRequest) -> HttpResponse:
    """Return registrations and issued tokens, newest first, at most 200."""
    return json_response(queries.contract_audit(query_parameter(request, "task_id")))


@router.get(
    "/v1/audit",
    response={200: AuditPage, 400: Problem, 503: Problem},
    openapi_extra={"parameters": parameters(*_FILTERS, "before", "limit")},
)
def audit(request: HttpRequest) -> HttpResponse:
    """Return a page of the audit with filters, newest first; `before` is the `next` of the page before."""
    filters = {name: query_parameter(request, name) for name in _FILTERS}
    limit = integer_parameter(request, "limit", 0) or queries.PAGE_DEFAULT
    before = integer_parameter(request, "before", None)
    page = queries.audit_page(filters, before=before, limit=min(limit, queries.PAGE_MOST))
    return json_response(page)


def exact_id(request: HttpRequest, text: str) -> str:
    """Return the id of a legacy path as the caller wrote it: where `%2F` was kept from being a slash, undo that."""
    raw_path = str(request.META.get("RAW_URI", "")).partition("?")[0]
    task_id = unquote(text) if "%2" in raw_path else text
    if "\0" in task_id:
        raise Invalid("an id must not contain a NUL character")
    return task_id


def _registration(data: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a registration; raises Invalid."""
    body = validate(NewRegistration, data)
    if not body.repos:
        raise Invalid("repos required")
    return {"repos": body.repos, "lobster_type": body.lobster_type or _UNKNOWN_TYPE}


def _token_answer(issued: issue.Issued) -> HttpResponse:
    response = json_response({"token": issued.token, "expires_at": issued.expires_at})
    response["Cache-Control"] = "no-store"
    return response
