"""Changes of jobs that no form of the admin made, kept in Django's log of changes, which the activity log shows."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType

from jobs.models import Job

# The account that has what programs and commands did, since the log wants one; no form lets a person have this name.
PROGRAMS = "programs and commands"
_BY = " by "


def record(jobs: Iterable[Job], what: str, *, actor: str) -> None:
    """Note that somebody did something to these jobs; within the transaction that does it."""
    for job in jobs:
        _write(f"{what}{_BY}{_named(actor)}", actor, ContentType.objects.get_for_model(Job), str(job.pk), job.name)


def record_for_all(what: str, *, actor: str) -> None:
    """Note what concerns all jobs at once; within the transaction that does it."""
    _write(f"{what}{_BY}{_named(actor)}", actor, None, None, "all jobs")


def doer(entry: LogEntry) -> str:
    """Return who did what the entry is about, whichever account it is filed under."""
    account = entry.user.get_username()
    return entry.change_message.partition(_BY)[2] if account == PROGRAMS else account


def _write(message: str, actor: str, kind: ContentType | None, pk: str | None, name: str) -> None:
    LogEntry.objects.create(
        user=_account(actor),
        content_type=kind,
        object_id=pk,
        object_repr=name,
        action_flag=CHANGE,
        change_message=message,
    )


def _account(actor: str) -> User:
    person = User.objects.filter(username=actor).first()
    if person is None:
        unusable = {"is_active": False, "password": make_password(None)}
        person = User.objects.get_or_create(username=PROGRAMS, defaults=unusable)[0]
    return person


def _named(actor: str) -> str:
    return actor or "a caller over REST"
