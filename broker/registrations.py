"""Registrations as the broker sees them, whether a task or the old table holds them: finding one, judging it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from django.conf import settings

from broker import registration_keys, statements
from broker.models import Grant, LegacyRegistration
from core.errors import NotFound
from core.timestamps import parse, utc_now
from tasks.ids import parse_task_id
from tasks.models import OVER, Task, read_repos

LEGACY_LIFETIME = timedelta(hours=24)
ACTIVE, ENDED, EXPIRED = "active", "ended", "expired"


@dataclass(frozen=True)
class Registration:
    """A permission to get tokens for some repositories. Two that are equal give the same tokens."""

    subject: str
    task_number: int | None
    repos: tuple[str, ...]
    stored_repos: str | None
    status: str | None
    registered_at: str | None
    lobster_type: str
    generation: int
    task_status: str | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When it ends by age; None for one that lasts as long as its task."""
        if self.task_number is not None and not settings.BROKER_TASK_HOURS:
            return None
        lifetime = timedelta(hours=settings.BROKER_TASK_HOURS) if self.task_number is not None else LEGACY_LIFETIME
        registered = parse(self.registered_at)
        if registered is None:
            return datetime.min.replace(tzinfo=UTC)
        return min(registered, datetime.max.replace(tzinfo=UTC) - lifetime) + lifetime

    @property
    def status_now(self) -> str | None:
        """The stored status, or that its time is over."""
        ends = self.expires_at
        return EXPIRED if self.status == ACTIVE and ends is not None and ends <= utc_now() else self.status

    def refusal(self, shown_id: str) -> str | None:
        """Why it gives no token, in a sentence; None when it does."""
        if not self.repos:
            return f"Task {shown_id} not registered"
        status = self.status_now
        if status != ACTIVE and self.task_number is None:
            return f"Task {shown_id} is {status}, not active"
        if status != ACTIVE:
            return f"Task {shown_id} broker is {status}, not active"
        if self.task_status in OVER:
            return f"Task {shown_id} is {self.task_status}: its tokens ended with it"
        return None


def tasks_end_by_age() -> bool:
    """Whether the settings end registrations of tasks that are not over."""
    return bool(settings.BROKER_TASK_HOURS)


def find(text: str) -> Registration | None:
    """The registration that a token is asked for under: by `T42`, slug, name, assignee, then a legacy id.

    `T42` names that task alone once it exists, whatever others call themselves.
    """
    number = parse_task_id(text)
    if number is not None:
        registration = of_task_number(number)
        if registration is not None:
            return registration
    held = Task.objects.filter(broker_repos__isnull=False)
    for candidates in (held.filter(slug=text), held.filter(name=text), held.filter(assigned_to=text)):
        task = candidates.current()
        if task is not None:
            return of_task(task)
    row = LegacyRegistration.objects.filter(pk=text).first()
    return of_legacy(row) if row else None


def find_task(text: str) -> Task | None:
    """The task that a legacy path names: by slug, name or `T42`, in that order."""
    by_name = Task.objects.filter(slug=text).current() or Task.objects.filter(name=text).current()
    number = parse_task_id(text)
    if by_name is None and number is not None:
        return Task.objects.filter(pk=number).first()
    return by_name


def again(registration: Registration) -> Registration | None:
    """The same registration as it is now."""
    if registration.task_number is not None:
        return of_task_number(registration.task_number)
    row = LegacyRegistration.objects.filter(pk=registration_keys.legacy_id(registration.subject)).first()
    return of_legacy(row) if row else None


def of_task(task: Task) -> Registration:
    """The registration that a task holds, or would hold; as the database has it now. Raises NotFound."""
    registration = of_task_number(task.pk)
    if registration is None:
        raise NotFound(f"Task {task.task_id} not found")
    return registration


def of_task_number(number: int) -> Registration | None:
    """The registration that this task holds, or would hold; None when there is no such task."""
    subject = registration_keys.of_task(number)
    row = statements.read_task(subject, number)
    if row is None:
        return None
    broker_repos, status, registered_at, type, task_status, generation, lobster_type = row
    return Registration(
        subject=subject,
        task_number=number,
        repos=tuple(read_repos(broker_repos) or ()),
        stored_repos=broker_repos,
        status=status,
        registered_at=registered_at,
        lobster_type=lobster_type or type,
        generation=generation or 0,
        task_status=task_status,
    )


def of_legacy(row: LegacyRegistration) -> Registration:
    """A registration of the old table."""
    listed = as_listed(row)
    generation = Grant.objects.filter(pk=listed.subject).values_list("generation", flat=True).first()
    return replace(listed, generation=generation or 0)


def as_listed(row: Task | LegacyRegistration) -> Registration:
    """The registration of a row that was read, without asking for more: to be judged; no token is made for it."""
    if isinstance(row, LegacyRegistration):
        return Registration(
            subject=registration_keys.of_legacy(row.task_id),
            task_number=None,
            repos=tuple(read_repos(row.repos) or ()),
            stored_repos=row.repos,
            status=row.status,
            registered_at=row.registered_at,
            lobster_type=row.lobster_type,
            generation=0,
        )
    return Registration(
        subject=registration_keys.of_task(row.pk),
        task_number=row.pk,
        repos=tuple(read_repos(row.broker_repos) or ()),
        stored_repos=row.broker_repos,
        status=row.broker_status,
        registered_at=row.broker_registered_at,
        lobster_type=row.type,
        generation=0,
        task_status=row.status,
    )
