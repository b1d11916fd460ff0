"""`jobs.json` of installations from before the database: what each job last did."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from core import coerce
from core.errors import Invalid
from jobs.models import JobState


def read_job_state(data: object) -> list[JobState]:
    """The rows that the file's content stands for; raises Invalid unless it is an object of objects."""
    if not isinstance(data, dict):
        raise Invalid("it is not an object of jobs")
    rows = []
    for name, state in data.items():
        if not isinstance(state, dict):
            raise Invalid(f"the state of job {name[:100]!r} is not an object")
        enabled = state.get("enabled")
        rows.append(
            JobState(
                name=coerce.text(name) or "",
                last_run=coerce.text(state.get("last_run")),
                last_status=coerce.text(state.get("last_status")),
                last_duration=coerce.number(state.get("last_duration")),
                last_output=coerce.text(state.get("last_output")),
                run_count=coerce.count(state.get("run_count")),
                fail_count=coerce.count(state.get("fail_count")),
                enabled=True if enabled is None else bool(enabled),
            )
        )
    return rows


def import_job_state(*, rows: Sequence[JobState]) -> int:
    """Add the rows of jobs that have none yet; returns how many."""
    with transaction.atomic():
        before = JobState.objects.count()
        JobState.objects.bulk_create(rows, ignore_conflicts=True)
        return JobState.objects.count() - before
