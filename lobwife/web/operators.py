"""The people who may sign in: the first of them is made at the first start."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.db import transaction

from core.errors import Conflict

FIRST_OPERATOR = "admin"


@dataclass(frozen=True)
class NewOperator:
    """`password` is there only if it was made up here; it is kept nowhere else."""

    username: str
    password: str | None = field(default=None, repr=False)


def ensure_operator(*, username: str = "", password: str = "", email: str = "") -> NewOperator | None:
    """Make the first operator, unless there is one; a password that is not given is made up.

    Raises Conflict when the name belongs to a user who is not an operator.
    """
    username = username or FIRST_OPERATOR
    with transaction.atomic():
        if User.objects.filter(is_superuser=True).exists():
            return None
        if User.objects.filter(username=username).exists():
            raise Conflict(
                f"There is no operator yet, and {username!r} is a user who is not one:"
                " set DJANGO_SUPERUSER_USERNAME to a new name."
            )
        made_up = None if password else secrets.token_urlsafe(15)
        User.objects.create_superuser(username, email, password or made_up)
    return NewOperator(username, made_up)
