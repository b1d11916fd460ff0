"""REST routes of claims: taking a task, showing that its holder is alive, handing it back."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from access import leases
from core.callers import caller_of
from core.errors import LobwifeError
from core.rest import Problem, is_gone, json_body, json_response, request_body, validate
from tasks import queries
from tasks.ids import parse_path_id
from tasks.leases import services
from tasks.leases.queries import Wanted
from tasks.leases.waiting import waiting_room
from tasks.models import Status, Task
from tasks.questions.queries import answer_as_message
from tasks.schemas import ClaimedTask, HeartbeatAnswer, NewClaim, NewHeartbeat, NewRelease, ReleaseAnswer
from vaultsync.notes.texts import text_of

router = Router(tags=["leases"])
_PROBLEMS: dict[int, Any] = {400: Problem, 403: Problem, 404: Problem, 409: Problem, 413: Problem, 503: Problem}


@router.post(
    "/v1/tasks/claim",
    response={200: ClaimedTask, 204: None, 400: Problem, 413: Problem, 429: Problem, 503: Problem},
    openapi_extra=request_body(NewClaim),
)
def claim_task(request: HttpRequest) -> HttpResponse:
    """Take the first task of the queue that is ready and fits, and hold it for `lease_seconds`; 204 if there is none.

    The first is the one of the highest priority (critical, high, normal, low; any other is normal), then the one queued
    longest. A task is ready when all that it depends on is completed, no task of its group is active, and it is not put
    off. `body` is the text of its note, null for one that can't be read. `key` is an API key for this task, good until
    the lease is over.
    """
    body = validate(NewClaim, json_body(request, or_empty=True))
    wanted = Wanted(tuple(body.types or ()), tuple(body.repos or ()))
    caller = caller_of(request)

    who, gone = caller.identity or caller.address, partial(is_gone, request)
    claim = partial(leases.claim, wanted=wanted, seconds=body.lease_seconds, runner=body.runner, caller=caller)
    claimed = None
    if not gone():  # a task that it took would only wait for its lease to end
        claimed = claim()
        if claimed is None and body.wait_seconds:
            claimed = waiting_room().wait(wanted, who, body.wait_seconds, claim, gone)
    if claimed is None:
        return HttpResponse(status=204)
    lease = claimed.lease
    task = queries.task_detail(lease.task_id) or {}
    extra = {"attempt": lease.attempt, "lease": {"fence": lease.fence, "expires_at": _time(lease.expires_at)}}
    response = json_response({**task, "body": _body(_claimed(lease.task_id)), **extra, "key": claimed.key})
    response["Cache-Control"] = "no-store"
    return response


@router.post(
    "/v1/tasks/{task_id}/heartbeat",
    response={200: HeartbeatAnswer, **_PROBLEMS},
    openapi_extra=request_body(NewHeartbeat),
)
def heartbeat(request: HttpRequest, task_id: str) -> HttpResponse:
    """Show that the holder is alive: the lease begins anew. With `stop`, the holder is to stop, for the `reason`.

    `messages` are answers to its questions: each comes until a heartbeat has carried it, and for a minute after that,
    so that none is lost with a response. Its `question_id` tells a repetition.
    """
    body = validate(NewHeartbeat, json_body(request))
    beat = services.heartbeat(
        task_id=parse_path_id(task_id), fence=body.fence, caller=caller_of(request), progress=body.progress
    )
    answer = {"expires_at": _time(beat.expires_at), "stop": beat.reason is not None, "reason": beat.reason}
    return json_response({**answer, "messages": [answer_as_message(question) for question in beat.answers]})


@router.post(
    "/v1/tasks/{task_id}/release",
    response={200: ReleaseAnswer, **_PROBLEMS},
    openapi_extra=request_body(NewRelease),
)
def release(request: HttpRequest, task_id: str) -> HttpResponse:
    """Hand the task back as completed, failed, queued or blocked. The same call again gives the same answer."""
    body = validate(NewRelease, json_body(request))
    released = services.release_task(
        task_id=parse_path_id(task_id),
        fence=body.fence,
        outcome=body.outcome,
        reason=body.reason or "",
        caller=caller_of(request),
    )
    number = released.task_id
    answer = {"id": number, "task_id": f"T{number}", "fence": released.fence, "outcome": released.outcome}
    return json_response({**answer, "released_at": _time(released.released_at)})


def _claimed(task_id: int) -> Task:
    """Return what finding the note of a claimed task needs of it: a new model computes defaults of 22 fields."""
    return Task.from_db(None, ["id", "status"], [task_id, Status.ACTIVE])


def _body(task: Task) -> str | None:
    """Return the text of the task's note; None for one that can't be read, which must not lose the claim."""
    try:
        return text_of(task).text
    except LobwifeError:
        return None


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
