"""Tasks by the number that people type, `T42` or `42`."""

from __future__ import annotations

import re
from typing import Any

from django.db.models import Q, QuerySet

_NUMBER = re.compile(r"[Tt]?(\d{1,18})", re.ASCII)


def typed_number(text: str) -> int | None:
    """The number of the task that was typed; None for anything else."""
    match = _NUMBER.fullmatch(text.strip())
    return int(match[1]) if match else None


def or_number(text: str, field: str, everything: QuerySet[Any], found: QuerySet[Any]) -> QuerySet[Any]:
    """What was found, and what has the number that was typed in this field."""
    number = typed_number(text)
    return found if number is None else everything.filter(Q(**{field: number}) | Q(pk__in=found.values("pk")))
