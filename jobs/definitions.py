"""Definitions of jobs as a YAML file: written, compared, and read back all or none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.db import transaction
from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, StrictStr

from core.definitions import read_definitions
from core.errors import Invalid
from events import change_log
from jobs import secret_fields, services
from jobs.models import Job, JobState

_REQUIRED = ("description", "script", "schedule")
_DEFAULTS: dict[str, Any] = {name: getattr(Job(), name) for name in services.DEFINITION}


class Defined(BaseModel):
    """One job in a file. What is left out has its default; the secret URLs, and `enabled`, stay as they are."""

    model_config = ConfigDict(extra="forbid")

    script: StrictStr
    schedule: StrictStr
    description: StrictStr = ""
    enabled: StrictBool | None = None
    timezone: StrictStr = "UTC"
    timeout_seconds: StrictInt = _DEFAULTS["timeout_seconds"]
    concurrency: StrictStr = _DEFAULTS["concurrency"]
    max_parallel: StrictInt = _DEFAULTS["max_parallel"]
    misfire: StrictStr = _DEFAULTS["misfire"]
    misfire_max: StrictInt = _DEFAULTS["misfire_max"]
    start_deadline_seconds: StrictInt | None = None
    retries: StrictInt = _DEFAULTS["retries"]
    retry_delay_seconds: StrictInt = _DEFAULTS["retry_delay_seconds"]
    retry_delay_max_seconds: StrictInt = _DEFAULTS["retry_delay_max_seconds"]
    arguments: list[StrictStr] = []
    environment: dict[StrictStr, StrictStr] = {}
    secrets: list[StrictStr] = []
    working_directory: StrictStr = ""
    runs_on: StrictStr = ""
    alert_urls: StrictStr | None = None
    alert_after_failures: StrictInt = _DEFAULTS["alert_after_failures"]
    late_after_seconds: StrictInt | None = None
    long_after_seconds: StrictInt | None = None
    ping_url: StrictStr | None = None


@dataclass
class Plan:
    """The changes that an import would make; nothing is written yet."""

    made: list[Job] = field(default_factory=list)
    changed: list[Job] = field(default_factory=list)
    same: int = 0
    enabled: dict[str, bool] = field(default_factory=dict)
    before: str = ""
    after: str = ""

    def diff(self) -> str:
        """Return the change as a unified diff, secret URLs masked; empty when there is none."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True), self.after.splitlines(keepends=True), "now", "after the import"
        )
        return "".join(lines)


def exported(*, secrets: bool) -> str:
    """Return all jobs as YAML; without `secrets` the secret URLs are left out, and an import keeps them."""
    enabled = _enabled_by_name()
    jobs = {}
    for job in Job.objects.order_by("id"):
        fields = _fields(job, enabled.get(job.name, True), () if secrets else secret_fields.URLS)
        jobs[job.name] = fields if secrets else _masked(fields)
    return _as_yaml(jobs)


def for_people(job: Job) -> dict[str, Any]:
    """Return a job's definition: what differs from the defaults, secret URLs masked."""
    return _masked(_fields(job, _enabled_by_name([job.name]).get(job.name, True), ()))


def plan_import(text: str) -> Plan:
    """Check a whole file; raises Invalid with a sentence that names the job and the field."""
    plan = Plan()
    now = {job.name: job for job in Job.objects.all()}
    enabled = _enabled_by_name()
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for name, defined in read_definitions(text, key="jobs", schema=Defined).items():
        old = now.get(name)
        job = _applied(name, defined, old)
        will_be = enabled.get(name, True) if defined.enabled is None else defined.enabled
        is_now = _fields(old, enabled.get(name, True), ()) if old else None
        if is_now == _fields(job, will_be, ()):
            plan.same += 1
            continue
        (plan.changed if old else plan.made).append(job)
        plan.enabled[name] = will_be
        if old and is_now:
            before[name] = _masked(is_now)
        after[name] = _masked(_fields(job, will_be, ()))
    plan.before, plan.after = (_as_yaml(fields) if fields else "" for fields in (before, after))
    return plan


def carry_out(plan: Plan, *, actor: str) -> None:
    """Do what was planned, all or none; raises Conflict when a job of that name was made meanwhile."""
    with transaction.atomic():
        services.save_jobs([*plan.made, *plan.changed], enabled=plan.enabled, actor=actor)
        change_log.record(plan.made, "imported", actor=actor)
        change_log.record(plan.changed, "changed with an import", actor=actor)


def _applied(name: str, defined: Defined, old: Job | None) -> Job:
    """Return the job as the file has it, checked; what the daemon keeps in the row is untouched."""
    values = defined.model_dump(exclude={"enabled"})
    for secret in secret_fields.URLS:
        if values[secret] is None:
            values[secret] = getattr(old, secret) if old else ""
    job = Job(name=name, **values)
    if old is not None:
        for column in Job._meta.concrete_fields:
            if column.name not in services.DEFINITION:
                setattr(job, column.attname, getattr(old, column.attname))
    for wrong, reason in services.problems_of(job).items():
        raise Invalid(f"job {name}: {wrong}: {reason}")
    return job


def _fields(job: Job, enabled: bool, leave_out: Iterable[str]) -> dict[str, Any]:
    values = {name: getattr(job, name) for name in services.DEFINITION if name not in leave_out}
    kept = {name: _plain(value) for name, value in values.items() if name in _REQUIRED or value != _DEFAULTS[name]}
    return {**kept, "enabled": enabled}


def _plain(value: Any) -> Any:
    """Return a plain text: a choice of Django's is a text of a class of its own, which YAML does not know."""
    return str(value) if isinstance(value, str) else value


def _masked(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: secret_fields.masked(name, value) for name, value in fields.items()}


def _as_yaml(jobs: dict[str, Any]) -> str:
    text: str = yaml.safe_dump({"jobs": jobs}, sort_keys=False, allow_unicode=True, width=100)
    return text


def _enabled_by_name(names: list[str] | None = None) -> dict[str, bool]:
    states = JobState.objects.all() if names is None else JobState.objects.filter(name__in=names)
    return dict(states.values_list("name", "enabled"))
