"""The writes to the tables of the sync."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from core.errors import Unavailable
from core.text import one_line
from core.timestamps import utc_now
from vaultsync.models import Kind, NoteProblem, NoteRecord, SyncRequest, SyncRun, VaultState
from vaultsync.queries import is_enabled

_RUNS_KEPT = 200
_REPORT_DAYS = 7
_BACK_OFF_FIRST, _BACK_OFF_MOST = 5, 600
_ERROR_SHOWN = 1000


@dataclass(frozen=True)
class Report:
    """Something about a file that people should know. A name that is no text is shown as near as can be."""

    path: str
    kind: str
    sentence: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", one_line(self.path))
        object.__setattr__(self, "sentence", one_line(self.sentence)[:_ERROR_SHOWN])


def vault_state() -> VaultState:
    """The one row; made when it is missing."""
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
    """A sign of life of the sync loop, good for `busy_seconds` more than usual."""
    now = utc_now()
    save_state(beat_at=now, busy_until=now + timedelta(seconds=busy_seconds) if busy_seconds else None)


def request_sync(*, actor: str, full: bool = False) -> SyncRequest:
    """Ask the daemon for a sync; raises Unavailable when there is no vault to sync."""
    if not is_enabled():
        raise Unavailable("sync daemon not enabled")
    with transaction.atomic():
        return SyncRequest.objects.create(full=full, requested_by=actor, requested_at=utc_now())


def settle_requests(*, up_to: int) -> None:
    """Requests that a sync has served are done."""
    with transaction.atomic():
        SyncRequest.objects.filter(pk__lte=up_to).delete()


def record_run(*, run: SyncRun) -> None:
    """Keep a sync for the history, which holds the newest 200."""
    with transaction.atomic():
        run.save(force_insert=True)
        SyncRun.objects.filter(pk__lte=run.pk - _RUNS_KEPT).delete()


def record_failure(*, sentence: str) -> None:
    """A sync could not be done; it is tried again later, each time a little later."""
    failures = vault_state().failures + 1
    save_state(
        failures=failures,
        retry_at=back_off(failures),
        last_error=sentence[:_ERROR_SHOWN],
        last_error_at=utc_now(),
    )


def record_remote_failure(*, kind: str, sentence: str, ahead: int) -> None:
    """The remote did not take or give; commits wait here."""
    failures = vault_state().remote_failures + 1
    save_state(
        remote_state=kind,
        remote_error=sentence[:_ERROR_SHOWN],
        remote_failures=failures,
        remote_retry_at=back_off(failures),
        ahead=ahead,
        last_error=sentence[:_ERROR_SHOWN],
        last_error_at=utc_now(),
    )


def back_off(failures: int) -> datetime:
    """When to try again after so many failures in a row."""
    return utc_now() + timedelta(seconds=min(_BACK_OFF_MOST, _BACK_OFF_FIRST * 2 ** min(failures - 1, 10)))


def rests(*, until: datetime | None, now: datetime) -> bool:
    """Whether a back-off lasts; one that is longer than any is from before the clock was set back."""
    return until is not None and timedelta(0) < until - now <= timedelta(seconds=_BACK_OFF_MOST)


def report(*, reports: Iterable[Report]) -> None:
    """Keep reports; one that is known already keeps its `since`."""
    known = {(each.path, each.kind): each.sentence for each in reports}
    rows = [
        NoteProblem(path=path, kind=kind, sentence=sentence, since=utc_now())
        for (path, kind), sentence in known.items()
    ]
    if rows:
        with transaction.atomic():
            NoteProblem.objects.bulk_create(
                rows, update_conflicts=True, unique_fields=["path", "kind"], update_fields=["sentence"]
            )


def clear_reports(*, kind: str, paths: Iterable[str] | None = None) -> None:
    """Reports of a kind that are no longer so: of these paths, or all."""
    found = NoteProblem.objects.filter(kind=kind)
    if paths is not None:
        found = found.filter(path__in=list(paths))
    if found.exists():
        with transaction.atomic():
            found.delete()


def forget_old_reports() -> None:
    """What was only for people to know goes after a week."""
    old = NoteProblem.objects.filter(since__lt=utc_now() - timedelta(days=_REPORT_DAYS)).exclude(kind=Kind.UNREADABLE)
    if old.exists():
        with transaction.atomic():
            old.delete()


def save_records(*, records: Iterable[NoteRecord]) -> None:
    """What was written into notes."""
    rows = list(records)
    for start in range(0, len(rows), 500):
        with transaction.atomic():
            NoteRecord.objects.bulk_create(
                rows[start : start + 500],
                update_conflicts=True,
                unique_fields=["task_id"],
                update_fields=["path", "blob", "written", "intended"],
            )
