"""Registrations, whether a task or the old table holds them: finding one, judging it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings

from broker.models import Grant, LegacyRegistration
from core.timestamps import parse, utc_now
from tasks.ids import parse_task_id
from tasks.models import OVER, REGISTRATION_ACTIVE, REGISTRATION_ENDED, Task, read_repos

LEGACY_LIFETIME = timedelta(hours=24)
ACTIVE, ENDED, EXPIRED = REGISTRATION_ACTIVE, REGISTRATION_ENDED, "expired"


# --- keys: one text for the holder of a registration or a token, in the columns `key`
def task_key(number: int) -> str:
    return f"task:{number}"


def legacy_key(task_id: str) -> str:
    return f"legacy:{task_id}"


def key_of(row: Task | LegacyRegistration) -> str:
    return legacy_key(row.task_id) if isinstance(row, LegacyRegistration) else task_key(row.pk)


def service_key(name: str) -> str:
    return f"service:{name}"


def task_number_of_key(key: str) -> int | None:
    """Return the number of the task that a key names; None for a key of another kind."""
    kind, _, name = key.partition(":")
    return int(name) if kind == "task" else None


def legacy_id_of_key(key: str) -> str:
    """Return the id in the old table that a key names."""
    return key.partition(":")[2]


@dataclass(frozen=True)
class Registration:
    """A permission to get tokens for some repositories. Two that are equal give the same tokens."""

    key: str
    task_number: int | None
    repos: tuple[str, ...]
    status: str | None
    registered_at: str | None
    lobster_type: str
    generation: int = 0
    task_status: str | None = None

    @property
    def expires_at(self) -> datetime | None:
        """The time at which it expires by age; None for one that lasts as long as its task."""
        if self.task_number is None:
            lifetime = LEGACY_LIFETIME
        elif settings.BROKER_TASK_HOURS:
            lifetime = timedelta(hours=settings.BROKER_TASK_HOURS)
        else:
            return None
        registered = parse(self.registered_at)
        if registered is None:
            return datetime.min.replace(tzinfo=UTC)
        return min(registered, datetime.max.replace(tzinfo=UTC) - lifetime) + lifetime

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= utc_now()

    @property
    def current_status(self) -> str | None:
        """The stored status, or `expired`."""
        return EXPIRED if self.status == ACTIVE and self.is_expired else self.status

    def refusal(self, requested_id: str) -> str | None:
        """Return the sentence that refuses a token; None when there is a right to one."""
        if not self.repos:
            return f"Task {requested_id} not registered"
        if self.task_status in OVER:
            return f"Task {requested_id} is {self.task_status}: its tokens ended with it"
        status = self.current_status
        if status != ACTIVE and self.task_number is None:
            return f"Task {requested_id} is {status}, not active"
        if status != ACTIVE:
            return f"Task {requested_id} broker is {status}, not active"
        return None


def find(text: str) -> Registration | None:
    """Return the registration that a token is asked for under: by `T42`, slug, name, assignee, then a legacy id.

    `T42` names that task alone once it exists, whatever others call themselves.
    """
    number = parse_task_id(text)
    if number is not None:
        task = Task.objects.filter(pk=number).first()
        if task is not None:
            return of(task)
    registered = Task.objects.filter(broker_repos__isnull=False)
    for lookup in ({"slug": text}, {"name": text}, {"assigned_to": text}):
        task = registered.filter(**lookup).current()
        if task is not None:
            return of(task)
    row = LegacyRegistration.objects.filter(pk=text).first()
    return of(row) if row else None


def find_task(text: str) -> Task | None:
    """Return the task that a legacy path names: by slug, name or `T42`, in that order."""
    by_name = Task.objects.filter(slug=text).current() or Task.objects.filter(name=text).current()
    number = parse_task_id(text)
    if by_name is None and number is not None:
        return Task.objects.filter(pk=number).first()
    return by_name


def get(key: str) -> Registration | None:
    """Return the registration of a key as the database has it now; None when it is gone."""
    number = task_number_of_key(key)
    row: Task | LegacyRegistration | None
    if number is not None:
        row = Task.objects.filter(pk=number).first()
    else:
        row = LegacyRegistration.objects.filter(pk=legacy_id_of_key(key)).first()
    return of(row) if row is not None else None


def of(row: Task | LegacyRegistration) -> Registration:
    """Return the registration that a row holds, or would hold, with its generation."""
    return from_row(row, Grant.objects.filter(pk=key_of(row)).first())


def from_row(row: Task | LegacyRegistration, grant: Grant | None = None) -> Registration:
    """Return the registration of a row without a query. Without its grant it can be judged, but gives no token."""
    generation = grant.generation if grant else 0
    if isinstance(row, LegacyRegistration):
        repos = tuple(read_repos(row.repos) or ())
        return Registration(key_of(row), None, repos, row.status, row.registered_at, row.lobster_type, generation)
    repos = tuple(read_repos(row.broker_repos) or ())
    lobster_type = (grant.lobster_type if grant else "") or row.type
    return Registration(
        key_of(row), row.pk, repos, row.broker_status, row.broker_registered_at, lobster_type, generation, row.status
    )
