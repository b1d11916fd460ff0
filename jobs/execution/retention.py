"""Retention of runs: by age, by number and by size together. An active run is never touched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.conf import settings
from django.db import close_old_connections, models, transaction
from django.db.models import Count
from django_apscheduler.models import DjangoJobExecution

from core.timestamps import utc_now
from jobs.execution import output, output_files
from jobs.models import ACTIVE, Alert, Delivery, JobRun, RaisedAlert

_BATCH = 200
_WAKES_KEPT = timedelta(days=1)


@dataclass
class Pruned:
    """The counts of what one call removed."""

    runs: int = 0
    outputs: int = 0
    orphans: int = 0
    alerts: int = 0
    wakes: int = 0


def prune() -> Pruned:
    """Remove what is past the limits of the settings, in small transactions; safe to be cut short and repeated.

    Runs go with their output when they are too old or too many of their job. When all output together takes too much,
    the oldest is removed and its runs stay. Output without a run, as a deleted job leaves it, goes too.
    """
    close_old_connections()
    now = utc_now()
    oldest = now - timedelta(days=settings.JOB_KEEP_DAYS)
    pruned = Pruned()
    for ids in _batches(_too_old(oldest), _too_many()):
        pruned.runs += _remove_runs(ids)
    pruned.alerts = _remove(Alert.objects.filter(created_at__lt=oldest).exclude(state=Delivery.PENDING))
    pruned.alerts += _remove(RaisedAlert.objects.filter(resolved_at__lt=oldest))
    pruned.wakes = _remove(DjangoJobExecution.objects.filter(run_time__lt=now - _WAKES_KEPT))
    sizes = output.sizes_by_run()
    pruned.orphans = _remove_orphans(sizes)
    pruned.outputs = _remove_oldest_outputs(sizes)
    return pruned


def _too_old(oldest: datetime) -> Iterator[int]:
    # By the time they were asked for: ids grow with it, so the first that is young enough ends the search.
    for pk, queued, ended in _ended().order_by("id").values_list("id", "queued_at", "ended_at").iterator(_BATCH):
        if queued >= oldest:
            return
        if (ended or queued) < oldest:
            yield pk


def _too_many() -> Iterator[int]:
    keep = settings.JOB_KEEP_RUNS
    counts = JobRun.objects.order_by().values("job").annotate(count=Count("id")).filter(count__gt=keep)
    for job in counts.values_list("job", flat=True):
        last_kept = JobRun.objects.filter(job=job).order_by("-id").values_list("id", flat=True)[keep - 1]
        yield from _ended().filter(job=job, id__lt=last_kept).order_by("id").values_list("id", flat=True)


def _ended() -> models.QuerySet[JobRun]:
    return JobRun.objects.exclude(state__in=ACTIVE)


def _batches(*sources: Iterable[int]) -> Iterator[list[int]]:
    """Return the ids in lists, each read in full before it is acted upon."""
    for source in sources:
        iterator = iter(list(source))
        while batch := list(islice(iterator, _BATCH)):
            yield batch


def _remove_runs(ids: list[int]) -> int:
    """Remove the rows first: a file without a row is found later, a row without its file would promise what is gone."""
    with transaction.atomic():
        removed = _ended().filter(pk__in=ids).delete()[1].get("jobs.JobRun", 0)
    for pk in ids:
        output.delete(pk)
    return removed


def _remove(rows: models.QuerySet[models.Model]) -> int:
    """Delete all of these, a few at a time."""
    removed = 0
    while ids := list(rows.values_list("pk", flat=True)[:_BATCH]):
        with transaction.atomic():
            removed += rows.model._default_manager.filter(pk__in=ids).delete()[0]
    return removed


def _remove_orphans(sizes: dict[int, int]) -> int:
    """Remove files of runs that have no row. The row is always there first, and its number is never used again."""
    orphans: list[int] = []
    for batch in _batches(sorted(sizes)):
        existing = set(JobRun.objects.filter(pk__in=batch).values_list("pk", flat=True))
        orphans += [pk for pk in batch if pk not in existing]
    for pk in orphans:
        output.delete(pk)
        del sizes[pk]
    _remove_empty_folders()
    return len(orphans)


def _remove_empty_folders() -> None:
    """Remove all but those in which a run may be about to write."""
    newest = JobRun.objects.order_by("-id").values_list("pk", flat=True).first() or 0
    ids = [newest, newest + output_files.RUNS_PER_FOLDER, *JobRun.objects.active().values_list("pk", flat=True)]
    in_use = {output_files.output_path(pk).parent for pk in ids}
    for folder in output_files.folders():
        if folder not in in_use:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def _remove_oldest_outputs(sizes: dict[int, int]) -> int:
    total = sum(sizes.values())
    removed = 0
    for batch in _batches(sorted(sizes)):
        if total <= settings.JOB_KEEP_OUTPUT_BYTES:
            break
        active = set(JobRun.objects.active().filter(pk__in=batch).values_list("pk", flat=True))
        for pk in batch:
            if total > settings.JOB_KEEP_OUTPUT_BYTES and pk not in active:
                output.delete(pk)
                total -= sizes[pk]
                removed += 1
    return removed
