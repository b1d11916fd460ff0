"""REST routes of tasks and their events; PATCH is in broker/api.py, since it may register the task."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from core.callers import caller_of
from core.errors import Invalid, NotFound
from core.rest import Problem, integer_parameter, json_body, json_response, query_parameter, request_body, validate
from tasks import queries, services
from tasks.ids import parse_path_id
from tasks.schemas import (
    EventListItem,
    EventLogged,
    NewEvent,
    NewTask,
    TaskCancelled,
    TaskCounts,
    TaskCreated,
    TaskDetail,
    TaskListItem,
)

router = Router(tags=["tasks"])
_DEFAULT_LIMIT, _LARGEST_LIMIT = 100, 500
_LIST_PARAMETERS: list[dict[str, Any]] = [
    {"in": "query", "name": "status", "schema": {"type": "string"}},
    {"in": "query", "name": "type", "schema": {"type": "string"}},
    {"in": "query", "name": "limit", "schema": {"type": "integer", "minimum": 0, "default": 100}},
    {"in": "query", "name": "before_id", "schema": {"type": "integer", "minimum": 0}},
    {"in": "query", "name": "order", "schema": {"enum": ["newest", "queue"], "default": "newest"}},
]
_EVENT_PARAMETERS: list[dict[str, Any]] = [
    {"in": "query", "name": "limit", "schema": {"type": "integer", "minimum": 0, "default": queries.EVENTS_MOST}},
    _LIST_PARAMETERS[3],
]


@router.post(
    "/v1/tasks",
    response={201: TaskCreated, 400: Problem, 403: Problem, 409: Problem, 413: Problem, 503: Problem},
    openapi_extra=request_body(NewTask),
)
def create_task(request: HttpRequest) -> HttpResponse:
    """Create a task. An agent creates tasks under its own, with no more repositories and permissions than that has."""
    body = validate(NewTask, json_body(request))
    task = services.create_task(fields=body.model_dump(exclude={"actor"}), actor=body.actor, caller=caller_of(request))
    return json_response({"id": task.pk, "task_id": task.task_id}, 201)


@router.get(
    "/v1/tasks",
    response={200: list[TaskListItem], 400: Problem, 503: Problem},
    openapi_extra={"parameters": _LIST_PARAMETERS},
)
def list_tasks(request: HttpRequest) -> HttpResponse:
    """List tasks, newest first, without their broker fields; at most 500. An agent sees its own task alone.

    With `order=queue` the queued ones, in the order in which they are claimed.
    """
    limit = min(integer_parameter(request, "limit", _DEFAULT_LIMIT), _LARGEST_LIMIT)
    before = integer_parameter(request, "before_id", None)
    status, type = query_parameter(request, "status"), query_parameter(request, "type")
    caller = caller_of(request)
    only_id = caller.task_id or 0 if caller.is_agent else None
    order = query_parameter(request, "order") or "newest"
    if order not in ("newest", "queue"):
        raise Invalid("order must be newest or queue")
    if order == "queue" and before is not None:
        raise Invalid("before_id goes with order=newest")
    return json_response(
        queries.task_list(
            status=status, type=type, limit=limit, only_id=only_id, before_id=before, is_queue=order == "queue"
        )
    )


@router.get("/v1/tasks/counts", response={200: TaskCounts, 503: Problem})
def count_tasks(request: HttpRequest) -> HttpResponse:
    """Count the tasks, in all and by status."""
    return json_response(queries.task_counts())


@router.get("/v1/tasks/{task_id}", response={200: TaskDetail, 400: Problem, 404: Problem, 503: Problem})
def get_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """Get one task with all fields."""
    task = queries.task_detail(parse_path_id(task_id))
    if task is None:
        raise NotFound(f"Task T{task_id.removeprefix('T')} not found")
    return json_response(task)


@router.delete(
    "/v1/tasks/{task_id}", response={200: TaskCancelled, 400: Problem, 404: Problem, 409: Problem, 503: Problem}
)
def cancel_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """Cancel a task; its row and history stay."""
    number = parse_path_id(task_id)
    services.cancel_task(task_id=number, actor=None, caller=caller_of(request))
    return json_response({"id": number, "task_id": f"T{number}", "status": "cancelled"})


@router.get(
    "/v1/tasks/{task_id}/events",
    response={200: list[EventListItem], 400: Problem, 404: Problem, 503: Problem},
    openapi_extra={"parameters": _EVENT_PARAMETERS},
)
def list_events(request: HttpRequest, task_id: str) -> HttpResponse:
    """List a task's history, newest first; an unknown task has none.

    Of more than 5,000 events or 4 MiB of texts the newest come, and the header `Link` has the address of the next.
    """
    limit = min(integer_parameter(request, "limit", queries.EVENTS_MOST), queries.EVENTS_MOST)
    before = integer_parameter(request, "before_id", None)
    page = queries.task_events(parse_path_id(task_id), limit=limit, before_id=before)
    response = json_response(page.events)
    if page.before_id is not None:
        response["Link"] = f'<{request.path}?limit={limit}&before_id={page.before_id}>; rel="next"'
    return response


@router.post(
    "/v1/tasks/{task_id}/events",
    response={201: EventLogged, 400: Problem, 404: Problem, 409: Problem, 413: Problem, 503: Problem},
    openapi_extra=request_body(NewEvent),
)
def log_event(request: HttpRequest, task_id: str) -> HttpResponse:
    """Append an event to a task's history."""
    data = json_body(request)
    number = parse_path_id(task_id)
    check_exists(number)
    body = validate(NewEvent, data)
    services.log_event(
        task_id=number,
        event_type=body.event_type or "",
        detail=body.detail,
        actor=body.actor,
        caller=caller_of(request),
    )
    return json_response({"status": "logged", "task_id": f"T{number}"}, 201)


def check_exists(number: int) -> None:
    """Raise NotFound for a task that does not exist."""
    if queries.task_status(number) is None:
        raise NotFound(f"Task T{number} not found")
