"""The list of tasks as CSV, for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.db import close_old_connections
from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from tasks.models import Task

_COLUMNS = (
    *("task_id", "name", "status", "type", "priority", "assigned_to", "repos", "model", "estimate_minutes"),
    *("created_at", "queued_at", "assigned_at", "completed_at", "updated_at", "token_count"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
MOST_ROWS = 50_000
_PAGE_ROWS = 500


class _Line:
    """A file that returns what is written."""

    def write(self, text: str) -> str:
        return text


def as_csv(tasks: QuerySet[Task]) -> StreamingHttpResponse:
    """Return the tasks as a file; texts that a spreadsheet would compute are quoted.

    It is read in pages, so that no connection and no transaction lasts as long as a slow client reads.
    """
    writer = csv.writer(_Line())
    ids = list(tasks.values_list("pk", flat=True)[:MOST_ROWS])

    def lines() -> Iterator[Any]:
        yield writer.writerow(_COLUMNS)
        for start in range(0, len(ids), _PAGE_ROWS):
            page = ids[start : start + _PAGE_ROWS]
            rows = Task.objects.in_bulk(page)
            close_old_connections()
            for task in (rows[pk] for pk in page if pk in rows):
                yield writer.writerow([_cell(getattr(task, name)) for name in _COLUMNS])

    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="tasks.csv"'
    return response


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
