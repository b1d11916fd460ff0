"""The writes to the tables of the sync."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from core import processes
from core.errors import Unavailable
from core.timestamps import utc_now
from vaultsync.models import Kind, NoteProblem, NoteRecord, SyncRequest, SyncRun, VaultState
from vaultsync.queries import is_enabled

_RUNS_KEPT = 200
_PROBLEM_DAYS = 7
_BACK_OFF_FIRST, _BACK_OFF_MOST = 5, 600
_MOST_CHARACTERS = 1000


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


def delete_requests(*, up_to: int) -> None:
    """Delete the requests that a sync has served."""
    with transaction.atomic():
        SyncRequest.objects.filter(pk__lte=up_to).delete()


def record_run(*, run: SyncRun) -> None:
    """Save a sync in the history, which holds the newest 200."""
    with transaction.atomic():
        run.save(force_insert=True)
        SyncRun.objects.filter(pk__lte=run.pk - _RUNS_KEPT).delete()


def record_failure(*, sentence: str) -> None:
    """Record a failed sync; it is tried again with back-off."""
    failures = vault_state().failures + 1
    save_state(
        failures=failures,
        retry_at=retry_time(failures),
        last_error=sentence[:_MOST_CHARACTERS],
        last_error_at=utc_now(),
    )


def record_remote_failure(*, kind: str, sentence: str, ahead: int) -> None:
    """Record an error of the remote; commits wait here."""
    failures = vault_state().remote_failures + 1
    save_state(
        remote_state=kind,
        remote_error=sentence[:_MOST_CHARACTERS],
        remote_failures=failures,
        remote_retry_at=retry_time(failures),
        ahead=ahead,
        last_error=sentence[:_MOST_CHARACTERS],
        last_error_at=utc_now(),
    )


def retry_time(failures: int) -> datetime:
    """Return when to try again after so many failures in a row."""
    return utc_now() + timedelta(seconds=processes.backoff(failures - 1, _BACK_OFF_FIRST, _BACK_OFF_MOST))


def is_backing_off(*, until: datetime | None, now: datetime) -> bool:
    """Return True while a back-off lasts; one longer than any is from before the clock was set back."""
    return until is not None and timedelta(0) < until - now <= timedelta(seconds=_BACK_OFF_MOST)


def record_problems(*, problems: Iterable[NoteProblem]) -> None:
    """Save problems; one that was known before keeps its `since`."""
    distinct = {(problem.path, problem.kind): problem for problem in problems}
    if distinct:
        with transaction.atomic():
            NoteProblem.objects.bulk_create(
                distinct.values(), update_conflicts=True, unique_fields=["path", "kind"], update_fields=["sentence"]
            )


def clear_problems(*, kind: str, paths: Iterable[str] | None = None, except_for: Iterable[NoteProblem] = ()) -> None:
    """Delete problems of a kind that are solved: those of some paths, or all but `except_for`."""
    current = {problem.path for problem in except_for if problem.kind == kind}
    stored = set(NoteProblem.objects.filter(kind=kind).values_list("path", flat=True))
    solved = (stored if paths is None else stored.intersection(paths)) - current
    if solved:
        with transaction.atomic():
            NoteProblem.objects.filter(kind=kind, path__in=solved).delete()


def delete_old_problems() -> None:
    """Delete problems after a week, but for files that still can't be synced."""
    old = NoteProblem.objects.filter(since__lt=utc_now() - timedelta(days=_PROBLEM_DAYS)).exclude(kind=Kind.UNREADABLE)
    if old.exists():
        with transaction.atomic():
            old.delete()


def save_records(*, records: Iterable[NoteRecord]) -> None:
    """Save what was written into notes."""
    rows = list(records)
    for start in range(0, len(rows), 500):
        with transaction.atomic():
            NoteRecord.objects.bulk_create(
                rows[start : start + 500],
                update_conflicts=True,
                unique_fields=["task_id"],
                update_fields=["path", "blob", "written"],
            )
