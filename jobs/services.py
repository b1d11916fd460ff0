"""Every write to job definitions and to whether they are enabled."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F

from jobs import locate, schedule
from jobs.models import Daemon, Job, JobState
from lobwife.base.errors import Conflict, Invalid, NotFound
from lobwife.base.timestamps import utc_now

DAEMON_ROW = 1
log = logging.getLogger(__name__)


def get_job(name: str) -> Job:
    """The job; raises NotFound in the contract's words."""
    job = Job.objects.filter(name=name).first()
    if job is None:
        raise NotFound(f"Unknown job: {name[:100]}")
    return job


def save_job(job: Job, *, actor: str) -> Job:
    """Check a definition and store it; a new or changed schedule counts from now. Raises Invalid, or Conflict."""
    check_job(job)
    if Job.objects.filter(name=job.name).exclude(pk=job.pk).exists():
        raise Conflict(f"a job named {job.name} exists already")
    now = utc_now()
    with transaction.atomic():
        before = Job.objects.filter(pk=job.pk).first() if job.pk else None
        if before is None or (before.schedule, before.timezone) != (job.schedule, job.timezone):
            job.settled_through = now
            job.next_firing = schedule.first_after(job.schedule, job.timezone, now)
        job.save()
        if before is not None and before.name != job.name:
            JobState.objects.filter(name=job.name).delete()  # of a job that is no more
            JobState.objects.filter(name=before.name).update(name=job.name)
        JobState.objects.get_or_create(name=job.name)
    log.info("job %s was %s by %s", job.name, "changed" if before else "defined", actor)
    return job


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
    """Raises Invalid, with the field and the reason, for a definition that could not work."""
    try:
        job.clean_fields()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise Invalid(f"{field}: {messages[0]}") from None
    schedule.check(job.schedule, job.timezone)
    locate.check_name(job.script)
    if not isinstance(job.arguments, list) or not all(isinstance(each, str) for each in job.arguments):
        raise Invalid("arguments must be a list of texts")
    pairs = job.environment.items() if isinstance(job.environment, dict) else [(None, None)]
    if not all(isinstance(key, str) and isinstance(value, str) and key and "=" not in key for key, value in pairs):
        raise Invalid("environment must map names to texts")
    if any("\0" in each for each in [*job.arguments, *job.environment.keys(), *job.environment.values()]):
        raise Invalid("arguments and environment must not contain a NUL character")
    if job.max_parallel < 1 or job.misfire_max < 1 or job.timeout_seconds < 1 or job.alert_after_failures < 1:
        raise Invalid("max_parallel, misfire_max, timeout_seconds and alert_after_failures must be 1 or more")


def set_enabled(*, name: str, enabled: bool, actor: str | None) -> Job:
    """Enable or disable a job; what it missed while disabled never runs. Raises NotFound."""
    job = get_job(name)
    now = utc_now()
    try:
        next_firing = schedule.first_after(job.schedule, job.timezone, now)
    except Invalid as error:  # edited by hand: it can be switched all the same
        log.error("job %s does not fire: %s", name, error)
        next_firing = None
    with transaction.atomic():
        state, _ = JobState.objects.get_or_create(name=name)
        if enabled and not state.enabled:
            Job.objects.filter(pk=job.pk).update(settled_through=now, next_firing=next_firing)
        JobState.objects.filter(name=name).update(enabled=enabled)
    log.info("job %s was %s by %s", name, "enabled" if enabled else "disabled", actor or "a caller over REST")
    return job


def set_paused(*, paused: bool, actor: str) -> None:
    """Pause or resume all starts; firings missed meanwhile follow each job's policy."""
    with transaction.atomic():
        Daemon.objects.get_or_create(pk=DAEMON_ROW)
        rows = Daemon.objects.filter(pk=DAEMON_ROW, paused_at__isnull=paused)
        rows.update(paused_at=utc_now() if paused else None, paused_by=actor if paused else "")
    log.info("starts were %s by %s", "paused" if paused else "resumed", actor)


def is_paused() -> bool:
    return Daemon.objects.filter(pk=DAEMON_ROW, paused_at__isnull=False).exists()


def count_start(name: str, *, started: str) -> None:
    """A run of the job started: its summary counts it. Called within the transaction that records the start."""
    JobState.objects.get_or_create(name=name)
    JobState.objects.filter(name=name).update(last_run=started, run_count=F("run_count") + 1)


def uncount_start(name: str) -> None:
    """A start that was counted did not happen. Called within the transaction that takes it back."""
    JobState.objects.filter(name=name, run_count__gt=0).update(run_count=F("run_count") - 1)
