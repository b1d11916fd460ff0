"""REST routes of links and results; both are read with their task."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from core.callers import caller_of
from core.rest import Problem, json_body, json_response, request_body, validate
from tasks.api import check_exists
from tasks.ids import parse_path_id
from tasks.results import services
from tasks.results.schemas import LinkAdded, NewLink, NewResult, ResultWritten

router = Router(tags=["tasks"])


@router.post(
    "/v1/tasks/{task_id}/links",
    response={
        **{200: LinkAdded, 201: LinkAdded, 400: Problem, 404: Problem},
        **{409: Problem, 413: Problem, 503: Problem},
    },
    openapi_extra=request_body(
        NewLink, {"kind": "pull", "url": "https://github.com/org/manual/pull/7", "actor": "agent-7"}
    ),
)
def add_link(request: HttpRequest, task_id: str) -> HttpResponse:
    """Add a link to a task: a pull request, branch, commit, issue or other. One that is there answers 200."""
    data, number = json_body(request), parse_path_id(task_id)
    check_exists(number)
    body = validate(NewLink, data)
    link, is_new = services.add_link(
        task_id=number, kind=body.kind, url=body.url, actor=body.actor, caller=caller_of(request)
    )
    answer = {"id": link.pk, "task_id": f"T{number}", "kind": link.kind, "url": link.url}
    return json_response(answer, 201 if is_new else 200)


@router.post(
    "/v1/tasks/{task_id}/result",
    response={
        **{200: ResultWritten, 400: Problem, 404: Problem},
        **{409: Problem, 413: Problem, 503: Problem},
    },
    openapi_extra=request_body(
        NewResult, {"summary": "The manual has all chapters", "data": {"chapters": 7}, "actor": "agent-7"}
    ),
)
def write_result(request: HttpRequest, task_id: str) -> HttpResponse:
    """Write what a task ended with, before it is set to completed; the last one sent counts."""
    data, number = json_body(request), parse_path_id(task_id)
    check_exists(number)
    body = validate(NewResult, data)
    services.write_result(
        task_id=number, summary=body.summary, data=body.data, actor=body.actor, caller=caller_of(request)
    )
    return json_response({"status": "stored", "task_id": f"T{number}"})
