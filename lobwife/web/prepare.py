"""Everything a start needs before web answers: migrations, static files, the first operator.

All of it can be repeated, and two starts at once wait for each other.
"""

from __future__ import annotations

import hashlib
import pathlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import transaction

from core import env
from core.errors import Conflict, Unavailable
from core.files import locked
from lobwife.web.preflight import OPERATOR_VARIABLES

STAMP = ".collected"
DEFAULT_OPERATOR = "admin"


@dataclass(frozen=True)
class NewOperator:
    """The operator that a first start made; `password` only where it was generated, since it is stored nowhere else."""

    username: str
    password: str | None = field(default=None, repr=False)


def prepare(**streams: Any) -> NewOperator | None:
    """Migrate, collect the static files, make the first operator and return it. Raises LobwifeError."""
    call_command("migrate", interactive=False, verbosity=0, **streams)
    (settings.STATE_DIR / "scripts").mkdir(exist_ok=True)  # for the operators' own scripts
    collect_static_files()
    username, password, email = map(env.text, OPERATOR_VARIABLES)
    return ensure_operator(username=username, password=password, email=email)


def collect_static_files() -> None:
    """Collect the static files unless the last collection is current; raises Unavailable when it can't write them."""
    root = pathlib.Path(settings.STATIC_ROOT)
    current = fingerprint()
    if _stamp(root) == current:
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / ".lock"):  # several installations may start from one checkout
            if _stamp(root) != current:
                call_command("collectstatic", interactive=False, verbosity=0)
                (root / STAMP).write_text(current)
    except OSError as error:
        raise Unavailable(
            f"The static files can't be collected in {root} ({error.strerror or error}):"
            " set LOBWIFE_STATIC_ROOT to a directory that this user may write."
        ) from None


def fingerprint() -> str:
    """A digest that changes when a file to be collected is changed, added or removed."""
    digest = hashlib.sha256(settings.STORAGES["staticfiles"]["BACKEND"].encode())
    for finder in get_finders():
        for path, storage in sorted(finder.list([]), key=lambda entry: str(entry[0])):
            with storage.open(path) as file:
                digest.update(f"\0{path}\0".encode() + hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def ensure_operator(*, username: str = "", password: str = "", email: str = "") -> NewOperator | None:
    """Make the first operator unless there is one; without a password one is generated.

    Raises Conflict when the name belongs to a user who is not an operator.
    """
    username = username or DEFAULT_OPERATOR
    with transaction.atomic():
        if User.objects.filter(is_superuser=True).exists():
            return None
        if User.objects.filter(username=username).exists():
            raise Conflict(
                f"There is no operator yet, and {username!r} is a user who is not one:"
                " set DJANGO_SUPERUSER_USERNAME to a new name."
            )
        generated = None if password else secrets.token_urlsafe(15)
        User.objects.create_superuser(username, email, password or generated)
    return NewOperator(username, generated)


def _stamp(root: pathlib.Path) -> str | None:
    try:
        return (root / STAMP).read_text()
    except OSError:
        return None
