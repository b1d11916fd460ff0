"""REST routes of the vault's sync."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

from core.callers import caller_of
from core.rest import Problem, json_response
from vaultsync import queries, services

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


@router.get("/v1/sync", response={200: SyncStatus, 503: Problem})
def sync_status(request: HttpRequest) -> HttpResponse:
    """Get the status of the sync."""
    return json_response(queries.sync_status())


@router.post("/v1/sync/trigger", response={200: SyncRequested, 503: Problem})
def trigger_sync(request: HttpRequest) -> HttpResponse:
    """Ask for a sync now; requests that come during one are folded into one more."""
    services.request_sync(actor=caller_of(request).identity or "a caller over REST")
    return json_response({"status": "sync requested"})
