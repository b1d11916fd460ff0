"""Secrets of scripts: stored encrypted, named by jobs, opened only when a script starts. And what looks like one."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from core import encryption
from core.errors import Conflict, Invalid, NotFound
from core.timestamps import utc_now
from jobs.models import Job, Secret
from jobs.supervisor.masking import Masker

MASK = "[masked]"
# A variable of the daemon's that scripts get only when their job names it as a secret.
ON_REQUEST = ("DISCORD_BOT_TOKEN",)
PURPOSE = "lobwife secrets of jobs"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "PEM", "KEY", "CREDENTIAL", "ALERT_URLS")
_NO_SECRET_ENDS = ("_PATH", "_FILE", "_DIR")
_PLAIN_VALUE = re.compile(r"\d*|true|false|yes|no|on|off", re.IGNORECASE)
log = logging.getLogger(__name__)


def is_secret(variable: str) -> bool:
    """Return whether a variable's name says that its value is secret."""
    name = variable.upper()
    return any(word in name for word in _SECRET_WORDS) and not name.endswith(_NO_SECRET_ENDS)


def looks_secret(variable: str, value: str) -> bool:
    """Return whether a value is a secret by its variable's name, or by its own form."""
    if is_secret(variable) and not _PLAIN_VALUE.fullmatch(value):
        return True
    data = value.encode(errors="replace")
    return Masker([]).mask(data) != data


def mask_environment(environment: object) -> Any:
    """Return a job's variables with secrets masked; what was broken by hand is masked whole."""
    if not isinstance(environment, dict):
        return MASK if environment else environment
    return {name: MASK if looks_secret(str(name), str(value)) else value for name, value in environment.items()}


def check_name(name: str) -> None:
    """Raises Invalid for what can't be the name of a secret."""
    if not _VARIABLE.fullmatch(name):
        raise Invalid("a secret is named like a variable: letters, digits, underscores")


def set_secret(*, name: str, value: str, actor: str) -> Secret:
    """Store a secret, or a new value of it; raises Invalid."""
    check_name(name)
    if not value or "\0" in value:
        raise Invalid(f"{name}: the value is empty, or has a NUL character")
    values = {
        "encrypted": encryption.encrypt(value, purpose=PURPOSE),
        "changed_at": utc_now(),
        "changed_by": actor,
    }
    with transaction.atomic():
        secret, _ = Secret.objects.update_or_create(name=name, defaults=values)
    log.info("secret %s was set by %s", name, actor)
    return secret


def remove_secret(*, name: str, actor: str) -> None:
    """Remove a secret; raises NotFound, or Conflict while a job names it."""
    with transaction.atomic():
        secret = Secret.objects.filter(name=name).first()
        if secret is None:
            raise NotFound(f"there is no secret {name[:100]}")
        jobs = users_of([name])[name]
        if jobs:
            raise Conflict(f"secret {name} is used by {', '.join(jobs)}: take it from the secrets of these jobs first")
        secret.delete()
    log.info("secret %s was removed by %s", name, actor)


def encrypt_anew() -> None:
    """Encrypt with the present secret key what an earlier one encrypted."""
    encryption.encrypt_anew(Secret.objects.all(), purpose=PURPOSE)


def users_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of the jobs that name each secret."""
    users: dict[str, list[str]] = {name: [] for name in names}
    for job, entries in Job.objects.order_by("name").values_list("name", "secrets"):
        for _, name in _pairs(entries):
            if name in users:
                users[name].append(job)
    return users


def check_entries(entries: object) -> None:
    """Raises Invalid for what isn't a list of secrets, each `NAME` or `VARIABLE=NAME`. They need not exist yet."""
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise Invalid("must be a list of names")
    for entry in entries:
        variable, equals, name = entry.partition("=")
        if not _VARIABLE.fullmatch(name if equals else variable) or not variable or "\0" in variable:
            raise Invalid(f"{entry[:100]!r} is not the name of a secret, nor VARIABLE=NAME")


def check_environment(environment: object) -> None:
    """Raises Invalid for what isn't a mapping of names to texts, or holds a secret."""
    pairs = list(environment.items()) if isinstance(environment, dict) else [(None, None)]
    if not all(isinstance(key, str) and isinstance(value, str) and key and "=" not in key for key, value in pairs):
        raise Invalid("must map names to texts")
    if any("\0" in f"{key}{value}" for key, value in pairs):
        raise Invalid("must not contain a NUL character")
    for name, value in pairs:
        if looks_secret(str(name), str(value)):
            raise Invalid(
                f"{name} looks like a secret, which everybody could read here: store it with `manage.py secrets set "
                f"{name}` and name it among the job's secrets"
            )


def missing(entries: object) -> list[str]:
    """Return the names of secrets that are not stored; the daemon alone knows its own variables."""
    names = [name for _, name in _pairs(entries)]
    stored = set(Secret.objects.filter(name__in=names).values_list("name", flat=True))
    return [name for name in names if name not in stored and name not in ON_REQUEST]


def open_all(entries: object) -> dict[str, str]:
    """Return the values of a job's secrets by variable, for its script alone; raises NotFound, Invalid."""
    values = {}
    for variable, name in _pairs(entries):
        secret = Secret.objects.filter(name=name).first()
        value = encryption.decrypt(secret.encrypted, purpose=PURPOSE) if secret else _from_daemon(name)
        if value is None:
            raise Invalid(f"secret {name} can't be read with this secret key: `manage.py secrets set {name}`")
        if not value:
            raise NotFound(f"there is no secret {name}: `manage.py secrets set {name}`")
        values[variable] = value
    return values


def _from_daemon(name: str) -> str:
    return os.environ.get(name, "") if name in ON_REQUEST else ""


def _pairs(entries: object) -> list[tuple[str, str]]:
    """Return variable and secret of each entry; what was broken by hand is left out."""
    texts = [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
    return [(variable, name or variable) for variable, _, name in (entry.partition("=") for entry in texts)]
