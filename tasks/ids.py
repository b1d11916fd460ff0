"""The ids of tasks as text: `T42` in registrations and notes, `42` or `T42` in paths and typed by people."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from django.db.models import Q, QuerySet

from core.errors import Invalid, NotFound

LARGEST_ID = 2**63 - 1
_TASK_ID = re.compile(r"T(\d{1,19})", re.ASCII)
_TYPED_ID = re.compile(r"[Tt]?(\d{1,19})", re.ASCII)
_PATH_ID = re.compile(r"T?\d+|-\d+", re.ASCII)
_MOST_DIGITS = len(str(LARGEST_ID))


def parse_task_id(text: str) -> int | None:
    """Return the number of `T42`, written exactly so; None for anything else, such as a name."""
    return _number(_TASK_ID.fullmatch(text))


def parse_typed_id(text: str) -> int | None:
    """Return the number of `T42`, `t42` or `42` as a person types it; None for anything else."""
    return _number(_TYPED_ID.fullmatch(text.strip()))


def parse_path_id(text: str) -> int:
    """Return the number of `42` or `T42` in a REST path; raises Invalid, or NotFound for one that no row can have."""
    if not _PATH_ID.fullmatch(text):
        raise Invalid(f"task id must be a whole number, not {text[:100]!r}")
    digits = text.removeprefix("T")
    number = int(digits) if len(digits) <= _MOST_DIGITS else -1
    if not 0 <= number <= LARGEST_ID:
        raise NotFound(f"Task T{digits} not found")
    return number


def include_typed_id(text: str, field: str, queryset: QuerySet[Any], results: QuerySet[Any]) -> QuerySet[Any]:
    """Add to the results of an admin search the rows of `queryset` whose `field` is the task id that was typed."""
    number = parse_typed_id(text)
    return results if number is None else queryset.filter(Q(**{field: number}) | Q(pk__in=results.values("pk")))


def near(field: str, ids: Collection[int]) -> Q:
    """Return the condition for rows of these ids, and maybe of some between them.

    Many that nearly follow each other are a range: Django takes 3 ms to pass 500 of them one by one.
    """
    first, last = (min(ids), max(ids)) if ids else (0, 0)
    return Q(**{f"{field}__range": (first, last)}) if last - first < 2 * len(ids) else Q(**{f"{field}__in": ids})


def _number(match: re.Match[str] | None) -> int | None:
    number = int(match[1]) if match else LARGEST_ID + 1
    return number if number <= LARGEST_ID else None
