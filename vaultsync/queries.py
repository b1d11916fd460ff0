"""The state of the sync and of single notes, as REST and the pages show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from core.database.statements import read_one
from core.timestamps import iso_text, seconds_text, utc_now
from tasks.models import Task, TaskEvent
from tasks.services import newest_event_id
from vaultsync.models import NoteProblem, NoteRecord, SyncRequest, VaultState
from vaultsync.notes.layout import note_path

_STALE_SECONDS = 30
# Every claim asks them: 10 microseconds each, through the ORM 350.
_RECORDED_PATH = "SELECT path FROM vaultsync_noterecord WHERE task_id = %s"
_DISABLED_REASON = "SELECT disabled_reason FROM vaultsync_vaultstate LIMIT 1"


@dataclass(frozen=True)
class NoteStatus:
    """The note of a task; `state` is off, waiting, committed or synced."""

    path: str
    state: str
    synced_at: datetime | None
    problems: list[NoteProblem]


def is_enabled() -> bool:
    """Return True when there is a vault and nothing forbids to sync it."""
    if not (settings.VAULT_PATH / ".git").exists():
        return False
    row = read_one(_DISABLED_REASON)
    return row is None or not row[0]


def is_running(state: VaultState | None) -> bool:
    """Return True when the sync loop is alive, idle or not."""
    if state is None or state.beat_at is None:
        return False
    now = utc_now()
    return now - state.beat_at < timedelta(seconds=_STALE_SECONDS) or bool(state.busy_until and state.busy_until > now)


def recorded_path(task_id: int) -> str | None:
    """Return where the vault had the note of a task at the last sync; None for a task that has none there."""
    row = read_one(_RECORDED_PATH, (task_id,))
    return row[0] if row is not None else None


def sync_status() -> dict[str, Any]:
    """Return the state of the sync as `api.SyncStatus` describes it."""
    state = VaultState.objects.first()
    if not is_enabled():
        return {"enabled": False, **({"reason": state.disabled_reason} if state and state.disabled_reason else {})}
    state = state or VaultState()
    return {
        "enabled": True,
        "last_sync": seconds_text(state.last_sync_at) if state.last_sync_at else None,
        "running": is_running(state),
        "pending_events": TaskEvent.objects.filter(pk__gt=state.committed or 0).count(),
        "newest_event": newest_event_id(),
        "committed_event": state.committed,
        "pushed_event": state.pushed,
        "last_commit": state.last_commit or None,
        "last_error": state.last_error or None,
        "last_error_at": iso_text(state.last_error_at) if state.last_error_at else None,
        "problems": NoteProblem.objects.count(),
        "requests": SyncRequest.objects.count(),
        "remote": {
            "state": state.remote_state or None,
            "commits_ahead": state.ahead,
            "failures": state.remote_failures,
            "retry_at": iso_text(state.remote_retry_at) if state.remote_retry_at else None,
            "error": state.remote_error or None,
        },
    }


def note_status(task: Task) -> NoteStatus:
    """Return where the note of a task is, and whether the vault has the task's last change."""
    record = NoteRecord.objects.filter(pk=task.pk).first()
    target = note_path(task)
    path = record.path if record else target
    problems = list(NoteProblem.objects.filter(path__in={path, target}))
    if not is_enabled():
        return NoteStatus(path, "off", None, problems)
    vault = VaultState.objects.first() or VaultState()
    newest = TaskEvent.objects.filter(task=task).order_by("-id").values_list("id", flat=True).first() or 0
    if record is None or vault.committed is None or newest > vault.committed:
        return NoteStatus(path, "waiting", None, problems)
    if vault.ahead and (vault.pushed is None or newest > vault.pushed):
        return NoteStatus(path, "committed", None, problems)
    return NoteStatus(path, "synced", vault.last_sync_at, problems)
