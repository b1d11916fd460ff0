"""REST routes of the vault's sync."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

from core.callers import caller_of
from core.rest import Problem, json_body, json_response, parameters, request_body, validate
from tasks.api import check_exists
from tasks.ids import parse_path_id
from tasks.schemas import Body, NoteBody, Word
from tasks.services import get_task
from vaultsync import queries, services
from vaultsync.notes import texts

router = Router(tags=["vault"])


class RemoteStatus(Schema):
    """The remote of the vault, as of the last push."""

    state: str | None
    commits_ahead: int
    failures: int
    retry_at: str | None
    error: str | None


class SyncStatus(Schema):
    """The sync; when it is not enabled there is `enabled` and perhaps `reason`, and nothing else."""

    enabled: bool
    reason: str | None = None
    last_sync: str | None = None
    running: bool | None = None
    pending_events: int | None = None
    newest_event: int | None = None
    committed_event: int | None = None
    pushed_event: int | None = None
    last_commit: str | None = None
    last_error: str | None = None
    last_error_at: str | None = None
    problems: int | None = None
    requests: int | None = None
    remote: RemoteStatus | None = None


class SyncRequested(Schema):
    status: str


class NewNote(Body):
    """The body of `PUT /api/v1/tasks/{id}/note`."""

    text: NoteBody
    actor: Word | None = None


class NoteShown(Schema):
    """The text of a note; `state` is `vault`, `requested` while the vault does not have it yet, or `none`."""

    task_id: str
    text: str
    state: str


class NoteWritten(Schema):
    """A text that was sent: `vault` has it, or it is `requested`."""

    task_id: str
    state: str


@router.get(
    "/v1/tasks/{task_id}/note", response={200: NoteShown, 400: Problem, 404: Problem, 409: Problem, 503: Problem}
)
def get_note(request: HttpRequest, task_id: str) -> HttpResponse:
    """Get the text of a task's note, below its frontmatter. Its ETag is for `If-Match` of a PUT."""
    number = parse_path_id(task_id)
    note = texts.text_of(get_task(number))
    response = json_response({"task_id": f"T{number}", "text": note.text, "state": note.state})
    response["ETag"] = note.etag
    return response


@router.put(
    "/v1/tasks/{task_id}/note",
    response={
        **{200: NoteWritten, 202: NoteWritten, 400: Problem, 404: Problem, 409: Problem},
        **{412: Problem, 413: Problem, 503: Problem},
    },
    openapi_extra={
        **request_body(NewNote, {"text": "\n# Write the manual\n\nOne page for each chapter.\n", "actor": "agent-7"}),
        "parameters": parameters("If-Match", place="header"),
    },
)
def put_note(request: HttpRequest, task_id: str) -> HttpResponse:
    """Write the text of a task's note, below its frontmatter; with `If-Match` only if nobody changed it since.

    The vault is written by the daemon: the answer waits for it for some seconds, and is 202 when that takes longer, or
    when there is no vault.
    """
    data, number = json_body(request), parse_path_id(task_id)
    check_exists(number)
    body = validate(NewNote, data)
    if_match = request.META.get("HTTP_IF_MATCH")
    version = texts.request_text(
        task_id=number, text=body.text, if_match=if_match, actor=body.actor, caller=caller_of(request)
    )
    is_written = texts.wait_until_written(number, version)
    response = json_response(
        {"task_id": f"T{number}", "state": "vault" if is_written else "requested"}, 200 if is_written else 202
    )
    response["ETag"] = texts.NoteText(body.text, "").etag
    return response


@router.get("/v1/sync", response={200: SyncStatus, 503: Problem})
def sync_status(request: HttpRequest) -> HttpResponse:
    """Get the status of the sync."""
    return json_response(queries.sync_status())


@router.post("/v1/sync/trigger", response={200: SyncRequested, 503: Problem})
def trigger_sync(request: HttpRequest) -> HttpResponse:
    """Ask for a sync now; requests that come during one are folded into one more."""
    services.request_sync(actor=caller_of(request).identity or "a caller over REST")
    return json_response({"status": "sync requested"})
