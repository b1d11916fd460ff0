"""Changes that no form of the admin made, kept in Django's log of changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

from events.admin_log import append_entry

# The account that has what programs and commands did, since the log wants one; no form lets a person have this name.
PROGRAMS = "programs and commands"
_BY = " by "


def record(objects: Iterable[Model], what: str, *, actor: str) -> None:
    """Note that somebody did something to these objects; within the transaction that does it."""
    for thing in objects:
        _write(what, actor, str(thing), content_type=ContentType.objects.get_for_model(thing), object_id=str(thing.pk))


def record_for_all(what: str, *, actor: str) -> None:
    """Note what concerns all jobs at once; within the transaction that does it."""
    _write(what, actor, "all jobs")


def doer(entry: LogEntry) -> str:
    """Return who did what the entry is about, whichever account it is filed under."""
    account = entry.user.get_username()
    return entry.change_message.partition(_BY)[2] if account == PROGRAMS else account


def last_editor(changed: Model) -> str:
    """Return who changed an object last; empty when nobody did."""
    kind = ContentType.objects.get_for_model(changed)
    entry = LogEntry.objects.filter(content_type=kind, object_id=str(changed.pk)).order_by("-pk").first()
    return doer(entry) if entry else ""


def _write(what: str, actor: str, name: str, **subject: Any) -> None:
    person = User.objects.filter(username=actor).first()
    if person is None:
        unusable = {"is_active": False, "password": make_password(None)}
        person = User.objects.get_or_create(username=PROGRAMS, defaults=unusable)[0]
    message = f"{what}{_BY}{actor or 'a caller over REST'}"
    values = {"object_repr": name, "action_flag": CHANGE, "change_message": message, **subject}
    append_entry(LogEntry.objects.create(user=person, **values), actor=actor)
