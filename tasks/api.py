"""REST routes of tasks and their events; PATCH is in broker/api.py, since it may register the task."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from core.callers import caller_of
from core.errors import Invalid, NotFound
from core.rest import (
    Problem,
    choice_parameter,
    integer_parameter,
    json_body,
    json_response,
    link_next,
    parameters,
    query_parameter,
    request_body,
    time_parameter,
    validate,
)
from tasks import queries, services
from tasks.ids import parse_path_id
from tasks.models import LEASE_ENDED
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
_WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
_FILTERS = ("status", "type", "priority", "assigned_to", "repo", "q")
_LIST_PARAMETERS = parameters(
    *_FILTERS,
    "cursor",
    updated_after={"type": "string", "format": "date-time"},
    order={"type": "string", "enum": list(queries.ORDERS), "default": queries.ORDERS[0]},
    limit={**_WHOLE, "default": _DEFAULT_LIMIT},
    before_id=_WHOLE,
)
_EVENT_PARAMETERS = parameters(limit={**_WHOLE, "default": queries.EVENTS_MOST}, before_id=_WHOLE)


@router.post(
    "/v1/tasks",
    response={
        **{201: TaskCreated, 400: Problem, 403: Problem, 404: Problem},
        **{409: Problem, 413: Problem, 503: Problem},
    },
    openapi_extra=request_body(
        NewTask,
        {
            "name": "Write the manual",
            "body": "One page for each chapter.",
            "repos": ["org/manual"],
            "priority": "high",
            "actor": "planner",
        },
    ),
)
def create_task(request: HttpRequest) -> HttpResponse:
    """Create a task. `body` is Markdown for its note, which is what an agent is to read.

    An agent creates tasks under its own, with no more repositories and permissions than that has; a runner so under one
    that it holds, its `parent`.
    """
    body = validate(NewTask, json_body(request))
    fields = body.model_dump(exclude={"actor", "body"})
    if "priority" not in body.model_fields_set:
        del fields["priority"]  # a subtask has that of its parent
    task = services.create_task(fields=fields, body=body.body, actor=body.actor, caller=caller_of(request))
    return json_response({"id": task.pk, "task_id": task.task_id}, 201)


@router.get(
    "/v1/tasks",
    response={200: list[TaskListItem], 400: Problem, 503: Problem},
    openapi_extra={"parameters": _LIST_PARAMETERS},
)
def list_tasks(request: HttpRequest) -> HttpResponse:
    """List tasks without their broker fields, at most 500: newest first, or queued ones in the order of claims.

    `q` is an id, or a part of a name, slug or assignee. The header `Link` has the address of the next page, in both
    orders. An agent sees its own task alone.
    """
    limit = min(integer_parameter(request, "limit", _DEFAULT_LIMIT), _LARGEST_LIMIT)
    caller = caller_of(request)
    where = queries.TaskFilter(
        **{name: query_parameter(request, name) for name in _FILTERS},
        updated_since=time_parameter(request, "updated_after"),
        only_id=caller.task_id or 0 if caller.is_agent else None,
        before_id=integer_parameter(request, "before_id", None),
    )
    order = choice_parameter(request, "order", queries.ORDERS)
    page = queries.task_list(where, limit=limit, order=order, cursor=query_parameter(request, "cursor"))
    response = json_response(page.tasks)
    if page.cursor is not None:
        link_next(request, response, cursor=page.cursor)
    return response


@router.get("/v1/tasks/counts", response={200: TaskCounts, 503: Problem})
def count_tasks(request: HttpRequest) -> HttpResponse:
    """Count the tasks, in all and by status."""
    return json_response(queries.task_counts())


@router.get("/v1/tasks/{task_id}", response={200: TaskDetail, 400: Problem, 404: Problem, 503: Problem})
def get_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """Get one task with all fields. Its ETag is for `If-Match` of a PATCH."""
    task = queries.task_detail(parse_path_id(task_id))
    if task is None:
        raise NotFound(f"Task T{task_id.removeprefix('T')} not found")
    response = json_response(task)
    response["ETag"] = queries.version(task)
    return response


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
        link_next(request, response, limit=limit, before_id=page.before_id)
    return response


@router.post(
    "/v1/tasks/{task_id}/events",
    response={201: EventLogged, 400: Problem, 404: Problem, 409: Problem, 413: Problem, 503: Problem},
    openapi_extra=request_body(
        NewEvent, {"event_type": "note", "detail": "The first chapter is done", "actor": "agent-7"}
    ),
)
def log_event(request: HttpRequest, task_id: str) -> HttpResponse:
    """Append an event to a task's history."""
    data = json_body(request)
    number = parse_path_id(task_id)
    check_exists(number)
    body = validate(NewEvent, data)
    if body.event_type == LEASE_ENDED:  # it ends the tokens of the task
        raise Invalid(f"{LEASE_ENDED} is what a lease logs at its end: name the event otherwise")
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
