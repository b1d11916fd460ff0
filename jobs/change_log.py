"""Changes of jobs that no form of the admin made, kept in Django's log of changes, which the activity log shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
        _write(what, actor, job.name, content_type=ContentType.objects.get_for_model(Job), object_id=str(job.pk))


def record_for_all(what: str, *, actor: str) -> None:
    """Note what concerns all jobs at once; within the transaction that does it."""
    _write(what, actor, "all jobs")


def doer(entry: LogEntry) -> str:
    """Return who did what the entry is about, whichever account it is filed under."""
    account = entry.user.get_username()
    return entry.change_message.partition(_BY)[2] if account == PROGRAMS else account


def _write(what: str, actor: str, name: str, **subject: Any) -> None:
    person = User.objects.filter(username=actor).first()
    if person is None:
        unusable = {"is_active": False, "password": make_password(None)}
        person = User.objects.get_or_create(username=PROGRAMS, defaults=unusable)[0]
    message = f"{what}{_BY}{actor or 'a caller over REST'}"
    LogEntry.objects.create(user=person, object_repr=name, action_flag=CHANGE, change_message=message, **subject)
