"""REST routes of the vault's sync."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

from core.rest import Problem, answer, caller_name
from vaultsync import services

router = Router(tags=["vault"])


class RemoteShown(Schema):
    """How the vault's remote took the last push."""

    state: str | None
    commits_ahead: int
    failures: int
    retry_at: str | None
    error: str | None


class SyncShown(Schema):
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
    remote: RemoteShown | None = None


class SyncRequested(Schema):
    status: str


@router.get("/v1/sync", response={200: SyncShown, 503: Problem})
def sync_status(request: HttpRequest) -> HttpResponse:
    """Where the vault stands."""
    shown: dict[str, Any] = services.status()
    return answer(shown)


@router.post("/v1/sync/trigger", response={200: SyncRequested, 503: Problem})
def trigger_sync(request: HttpRequest) -> HttpResponse:
    """Ask for a sync now; requests that come during one are folded into one more."""
    services.request_sync(actor=caller_name(request) or "a caller over REST")
    return answer({"status": "sync requested"})
