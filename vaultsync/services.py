"""The writes to the tables of the sync."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from core import processes
from core.errors import Unavailable
from core.timestamps import utc_now
from events import services as feed
from vaultsync.models import Kind, NoteProblem, NoteRecord, SyncRequest, SyncRun, VaultState
from vaultsync.queries import is_enabled
from vaultsync.vault import SyncResult

_RUNS_KEPT = 200
_PROBLEM_DAYS = 7
_BACK_OFF_FIRST, _BACK_OFF_MOST = 5, 600
_MOST_CHARACTERS = 1000
_ROWS_AT_ONCE = 100


def vault_state() -> VaultState:
    """Return the one row; it is created when it is missing."""
    state = VaultState.objects.first()
    if state is None:
        with transaction.atomic():
            state, _ = VaultState.objects.get_or_create(pk=1)
    return state


def save_state(**changes: Any) -> None:
    """Set fields of the one row."""
    vault_state()
    with transaction.atomic():
        VaultState.objects.update(**changes)


def beat(*, busy_seconds: float = 0) -> None:
    """Record a heartbeat of the sync loop, valid for `busy_seconds` more than usual."""
    now = utc_now()
    save_state(beat_at=now, busy_until=now + timedelta(seconds=busy_seconds) if busy_seconds else None)


def request_sync(*, actor: str, full: bool = False) -> SyncRequest:
    """Ask the daemon for a sync; raises Unavailable when there is no vault to sync."""
    if not is_enabled():
        raise Unavailable("sync daemon not enabled")
    with transaction.atomic():
        return SyncRequest.objects.create(full=full, requested_by=actor, requested_at=utc_now())


def record_sync(*, run: SyncRun, result: SyncResult, served: int | None) -> None:
    """Record a sync in the state, and in the history if it is worth it; delete the requests up to `served`.

    One that failed is tried again with back-off, and its requests stay.
    """
    problem, state = result.disabled or result.error, vault_state()
    changes: dict[str, Any] = {"disabled_reason": result.disabled}
    if problem:
        changes |= {"failures": state.failures + 1, "retry_at": retry_time(state.failures + 1), **_last_error(problem)}
    else:
        changes |= {"failures": 0, "retry_at": None, "last_sync_at": utc_now()}
        changes |= {"last_full_at": utc_now()} if result.full else {}
        changes |= {"last_error": "", "last_error_at": None} if not state.remote_failures else {}
    run.full, run.files, run.commit, run.pushed = result.full, result.files, result.commit, result.pushed
    run.error = problem or result.remote_error
    with transaction.atomic():
        VaultState.objects.update(**changes)
        if served is not None and not problem:
            SyncRequest.objects.filter(pk__lte=served).delete()
        if run.files or run.commit or run.error or run.full or served is not None:
            run.save(force_insert=True)
            SyncRun.objects.filter(pk__lte=run.pk - _RUNS_KEPT).delete()
        if run.error or run.pushed:
            names = ("reason", "seconds", "full", "files", "commit", "pushed", "error")
            data = {name: getattr(run, name) for name in names}
            feed.append("vault.failed" if run.error else "vault.pushed", "vault", data)


def record_remote_failure(*, kind: str, sentence: str, ahead: int) -> None:
    """Record an error of the remote; commits wait here."""
    error, failures = _last_error(sentence), vault_state().remote_failures + 1
    values = {"remote_state": kind, "remote_error": error["last_error"], "ahead": ahead, **error}
    save_state(remote_failures=failures, remote_retry_at=retry_time(failures), **values)


def _last_error(sentence: str) -> dict[str, Any]:
    return {"last_error": sentence[:_MOST_CHARACTERS], "last_error_at": utc_now()}


def retry_time(failures: int) -> datetime:
    """Return when to try again after so many failures in a row."""
    return utc_now() + timedelta(seconds=processes.backoff(failures - 1, _BACK_OFF_FIRST, _BACK_OFF_MOST))


def is_backing_off(*, until: datetime | None, now: datetime) -> bool:
    """Return True while a back-off lasts; one longer than any is from before the clock was set back."""
    return until is not None and timedelta(0) < until - now <= timedelta(seconds=_BACK_OFF_MOST)


def save_problems(*, problems: Iterable[NoteProblem], seen: Collection[str] | None, blocked_is_over: bool) -> None:
    """Save problems, and delete those that are over; one that was known before keeps its `since`.

    What is not among `problems` is over: an unreadable note at the paths `seen`, everywhere for None, a blocked file
    with `blocked_is_over`, and what people were told of a week ago.
    """
    current = {(problem.path, problem.kind): problem for problem in problems}
    week_ago, over = utc_now() - timedelta(days=_PROBLEM_DAYS), []
    for pk, path, kind, since in NoteProblem.objects.values_list("pk", "path", "kind", "since"):
        if kind == Kind.UNREADABLE:
            is_over = seen is None or path in seen
        else:
            is_over = (kind == Kind.BLOCKED and blocked_is_over) or since < week_ago
        if is_over and (path, kind) not in current:
            over.append(pk)
    if over or current:
        with transaction.atomic():
            NoteProblem.objects.filter(pk__in=over).delete()
            NoteProblem.objects.bulk_create(
                current.values(), update_conflicts=True, unique_fields=["path", "kind"], update_fields=["sentence"]
            )


def save_records(*, records: Sequence[tuple[int, str, str, dict[str, Any]]]) -> None:
    """Save what was written into notes: task, path, blob, values. Other writers wait for some of them, not for all."""
    for start in range(0, len(records), _ROWS_AT_ONCE):
        rows = [
            NoteRecord(task_id=task_id, path=path, blob=blob, written=written)
            for task_id, path, blob, written in records[start : start + _ROWS_AT_ONCE]
        ]
        NoteRecord.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["task_id"], update_fields=["path", "blob", "written"]
        )
