"""Every write to jobs: definitions, whether they are enabled, their counts of starts, the pause of all starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F

from core.errors import Conflict, Invalid, NotFound
from core.timestamps import utc_now
from events import change_log
from jobs import secret_fields, secrets
from jobs.execution import script_paths
from jobs.models import Daemon, Job, JobState
from jobs.scheduling import cron

# The columns that people define, after the name; the others are the daemon's.
DEFINITION = [field.name for field in Job._meta.concrete_fields if field.editable and field.name not in {"id", "name"}]
log = logging.getLogger(__name__)


def get_job(name: str) -> Job:
    """Return the job; raises NotFound in the contract's words."""
    job = Job.objects.filter(name=name).first()
    if job is None:
        raise NotFound(f"Unknown job: {name[:100]}")
    return job


def save_job(job: Job, *, actor: str) -> Job:
    """Check a definition and store it; a new or changed schedule counts from now. Raises Invalid, Conflict."""
    save_jobs([job], actor=actor)
    return job


def save_jobs(jobs: Sequence[Job], *, actor: str, enabled: Mapping[str, bool] | None = None) -> None:
    """Store definitions, all or none, and what is said of their being enabled; raises Invalid, Conflict."""
    for job in jobs:
        check_job(job)
    now = utc_now()
    before = Job.objects.in_bulk([job.pk for job in jobs if job.pk])
    for job in jobs:
        old = before.get(job.pk)
        if old is not None and old.name != job.name:
            raise Invalid("name: a job keeps its name")
        job.updated_at = now
        if _fires_as(old) != _fires_as(job):
            job.settled_through, job.next_firing = now, cron.first_after(job.schedule, job.timezone, now)
    new = [job for job in jobs if job.pk is None]
    try:
        with transaction.atomic():
            Job.objects.bulk_create(new)
            _update(jobs, before)
            JobState.objects.bulk_create([JobState(name=job.name) for job in jobs], ignore_conflicts=True)
            for switch in (True, False):
                _set_enabled([name for name, value in (enabled or {}).items() if value is switch], switch)
    except IntegrityError:
        names = " or ".join(sorted(job.name for job in new)[:5])
        raise Conflict(f"there is a job already that is named {names}") from None
    for job in jobs:
        log.info("job %s was %s by %s", job.name, "changed" if job.pk in before else "defined", actor)


def define_job(*, fields: Mapping[str, Any], actor: str) -> Job:
    """Make a job; raises Invalid, or Conflict when the name is taken."""
    return save_job(Job(**fields), actor=actor)


def delete_job(*, name: str, actor: str) -> None:
    """Remove a job with its runs and summary; raises NotFound, or Conflict while a run is active."""
    job = get_job(name)
    with transaction.atomic():
        if job.runs.active().exists():
            raise Conflict(f"job {name} is running: abort its run first")
        JobState.objects.filter(name=name).delete()
        job.delete()
    log.info("job %s was deleted by %s", name, actor)


def check_job(job: Job) -> None:
    """Raises Invalid, with the first field and the reason, for a definition that could not work."""
    for field, reason in problems_of(job).items():
        raise Invalid(f"{field}: {reason}")


def problems_of(job: Job) -> dict[str, str]:
    """Return the errors of a definition by field; empty when it could work. A script need not exist yet."""
    try:
        job.clean_fields()
        problems: dict[str, str] = {}
    except ValidationError as error:
        problems = {field: messages[0] for field, messages in error.message_dict.items()}
    checks: dict[str, Callable[[], object]] = {
        "timezone": lambda: cron.check_timezone(job.timezone),
        # Judged by itself where the timezone, which is checked before it, isn't one.
        "schedule": lambda: cron.check(job.schedule, "UTC" if "timezone" in problems else job.timezone),
        "script": lambda: script_paths.check_name(job.script),
        "arguments": lambda: _check_arguments(job.arguments),
        "environment": lambda: secrets.check_environment(job.environment),
        "secrets": lambda: secrets.check_entries(job.secrets),
        "alert_urls": lambda: secret_fields.check_destinations(job.alert_urls),
        "ping_url": lambda: secret_fields.check_ping(job.ping_url),
    }
    for field in ("max_parallel", "misfire_max", "timeout_seconds", "alert_after_failures"):
        if field not in problems and getattr(job, field) < 1:
            problems[field] = "must be 1 or more"
    for field, check in checks.items():
        if field not in problems:
            try:
                check()
            except Invalid as error:
                problems[field] = str(error)
    return problems


def set_enabled(*, name: str, enabled: bool, actor: str) -> Job:
    """Enable or disable a job; what it missed while disabled never runs. Raises NotFound."""
    job = get_job(name)
    with transaction.atomic():
        JobState.objects.get_or_create(name=name)
        if _set_enabled([name], enabled):
            change_log.record([job], "enabled" if enabled else "disabled", actor=actor)
    log.info("job %s was %s by %s", name, "enabled" if enabled else "disabled", actor or "a caller over REST")
    return job


def set_paused(*, paused: bool, actor: str) -> None:
    """Pause or resume all starts; firings missed meanwhile follow each job's policy."""
    with transaction.atomic():
        Daemon.objects.get_or_create(pk=Daemon.PK)
        rows = Daemon.objects.filter(pk=Daemon.PK, paused_at__isnull=paused)
        if rows.update(paused_at=utc_now() if paused else None, paused_by=actor if paused else ""):
            change_log.record_for_all(f"starts {'paused' if paused else 'resumed'}", actor=actor)
    log.info("starts were %s by %s", "paused" if paused else "resumed", actor)


def pause() -> Daemon | None:
    """Return the daemon's row, with when and by whom starts were paused; None when they are not."""
    daemon = Daemon.load()
    return daemon if daemon.paused_at else None


def count_start(name: str, *, started: str) -> None:
    """Count a start in the job's summary. Called within the transaction that records the start."""
    JobState.objects.get_or_create(name=name)
    JobState.objects.filter(name=name).update(last_run=started, run_count=F("run_count") + 1)


def uncount_start(name: str) -> None:
    """Take back a start that did not happen. Called within the transaction that takes it back."""
    JobState.objects.filter(name=name, run_count__gt=0).update(run_count=F("run_count") - 1)


def _set_enabled(names: Sequence[str], enabled: bool) -> bool:
    """Switch jobs within a transaction; those that become enabled go on from now. Return whether any changed."""
    changed = list(JobState.objects.filter(name__in=names).exclude(enabled=enabled).values_list("name", flat=True))
    JobState.objects.filter(name__in=changed).update(enabled=enabled)
    if enabled:
        now = utc_now()
        jobs = list(Job.objects.filter(name__in=changed))
        for job in jobs:
            job.settled_through, job.next_firing = now, _first_after(job, now)
        Job.objects.bulk_update(jobs, ["settled_through", "next_firing"])
    return bool(changed)


def _first_after(job: Job, now: datetime) -> datetime | None:
    try:
        return cron.first_after(job.schedule, job.timezone, now)
    except Invalid as error:  # edited by hand: it can be switched all the same
        log.error("job %s does not fire: %s", job.name, error)
        return None


def _update(jobs: Sequence[Job], before: Mapping[int, Job]) -> None:
    """Write the definitions; what the daemon keeps in the row is left to it, but for a schedule that changed."""
    old = [job for job in jobs if job.pk in before]
    Job.objects.bulk_update(old, [*DEFINITION, "updated_at"], batch_size=25)
    moved = [job for job in old if _fires_as(before[job.pk]) != _fires_as(job)]
    Job.objects.bulk_update(moved, ["settled_through", "next_firing"])


def _fires_as(job: Job | None) -> tuple[str, str] | None:
    return (job.schedule, job.timezone) if job else None


def _check_arguments(arguments: object) -> None:
    if not isinstance(arguments, list) or not all(isinstance(word, str) for word in arguments):
        raise Invalid("must be a list of texts")
    if any("\0" in word for word in arguments):
        raise Invalid("must not contain a NUL character")
