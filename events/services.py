"""Appending to the feed, and the one function that reads it.

Readers keep a cursor: the id of the last event that they have dealt with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.db.transaction import TransactionManagementError

from core.database.statements import last_id, write
from core.errors import Gone
from core.timestamps import utc_now
from events.types import TYPES

MOST_AT_ONCE = 1000
LONGEST_TEXT = 1000  # characters: a task's history, and the row of a run, have the whole
# A read looks at so many ids at most, however few of them match: it must not keep others waiting.
_WINDOW = 10_000
_LARGEST = 2**62
_TABLE = "events_event"
# The id is one more than the newest, and not a sequence's: see `read_after()`.
_INSERT = """
INSERT INTO events_event (id, type, at, subject, actor, caller, data, task_id)
SELECT coalesce(max(id), {last_id}, 0) + 1, %s, %s, %s, %s, %s, %s, %s FROM events_event
"""
# Of an empty feed, the last id that was given out: a reader goes on behind it.
_ENDS = """
SELECT (SELECT min(id) FROM events_event) AS oldest,
coalesce((SELECT max(id) FROM events_event), {last_id}, 0) AS newest
"""
# One statement, since retention may come between two; without events past the cursor it is one row of NULLs.
_SELECT = f"""
SELECT ends.oldest, ends.newest, e.* FROM ({_ENDS}) AS ends LEFT JOIN (
SELECT id, type, at, subject, actor, caller, data, task_id FROM events_event
WHERE id > %s AND id <= %s {{conditions}} ORDER BY id LIMIT %s) AS e ON TRUE ORDER BY e.id
"""


class CursorGone(Gone):
    """Events past the cursor were removed, or the cursor is of another database; `next` is one to go on with."""

    def __init__(self, sentence: str, next: int) -> None:
        super().__init__(sentence)
        self.next = next


class NewEvent(NamedTuple):
    """An event to append; the parameters of `append()`."""

    type: str
    subject: str
    data: Mapping[str, Any]
    actor: str | None = None
    caller: str | None = None


class StoredEvent(NamedTuple):
    """An event as it is read; `at` is ISO 8601, `data` the text of a JSON object."""

    id: int
    type: str
    at: str
    subject: str
    actor: str | None
    caller: str | None
    data: str
    task_id: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as REST answers it."""
        values = self._asdict() | {"data": orjson.Fragment(self.data)}
        del values["task_id"]
        return values


class Page(NamedTuple):
    """Events past a cursor, oldest first, and the cursor to go on with: past them, and past what did not match."""

    events: list[StoredEvent]
    next: int


def append(
    type: str, subject: str, data: Mapping[str, Any], *, actor: str | None = None, caller: str | None = None
) -> None:
    """Append an event within the transaction of the change that it tells of; `data` has the fields of its type.

    An event whose data has a `task_id` is one of that task. Nothing secret may be in it: who reads tasks and runs
    reads this too.
    """
    append_all([NewEvent(type, subject, data, actor, caller)])


def append_all(events: Iterable[NewEvent]) -> None:
    """Append events as `append()` does, in one statement."""
    if not connection.in_atomic_block:
        raise TransactionManagementError("an event belongs to the transaction of its change")
    now = connection.ops.adapt_datetimefield_value(utc_now())
    rows = []
    for event in events:
        names, fields = event.data.keys(), TYPES[event.type].fields.keys()
        if names != fields:
            raise ValueError(f"{event.type} has other fields: {sorted(names ^ fields)}")
        data = {name: _shortened(value) for name, value in event.data.items()}
        text = orjson.dumps(data, option=orjson.OPT_UTC_Z).decode().replace(r"\u0000", r"\ufffd")
        who = (_shortened(event.actor), _shortened(event.caller))
        rows.append((event.type, now, _shortened(event.subject), *who, text, data.get("task_id")))
    insert = _INSERT.format(last_id=last_id(_TABLE))
    if len(rows) == 1:  # as almost always: past Django's cursor, while all other writers wait
        write(insert, rows[0])
        return
    with connection.cursor() as cursor:
        cursor.executemany(insert, rows)


def read_after(
    cursor: int, *, types: Collection[str] | None = None, task: int | None = None, limit: int = MOST_AT_ONCE
) -> Page:
    """Return the next events past a cursor: of these types, of this task. Raises CursorGone.

    The page may be empty while there is more: read on from its `next` until that no longer grows.

    The one place that readers read from. An event that is seen here is never followed by one with a smaller id: ids are
    given out in the order of commits. SQLite has a single writer. PostgreSQL has many, and a sequence would give 5 to
    one that commits after another's 6: a cursor that has passed 6 would never see 5. So whoever appends holds a lock
    until the COMMIT, and the id is one more than the newest, than which none can become
    visible that is smaller. There are no gaps either, since what is rolled back gives its ids back.
    """
    until = cursor + _WINDOW if task is None else _LARGEST
    conditions, values = "", [cursor, until]
    if task is not None:
        conditions = "AND task_id = %s"
        values.append(task)
    if types is not None:
        conditions = f"{conditions} AND type IN ({', '.join(['%s'] * len(types))})"
    with connection.cursor() as opened:
        opened.execute(_SELECT.format(conditions=conditions, last_id=last_id(_TABLE)), [*values, *(types or ()), limit])
        rows = opened.fetchall()
    newest = rows[0][1]
    oldest = rows[0][0] or newest + 1
    check_cursor(cursor, oldest, newest)
    events = [_stored(row[2:]) for row in rows if row[2] is not None]
    return Page(events, events[-1].id if len(events) == limit else min(newest, until))


def newest_id() -> int:
    """Return the cursor of a reader that begins now."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT newest FROM ({_ENDS.format(last_id=last_id(_TABLE))}) AS ends")
        return int(cursor.fetchone()[0])


def check_cursor(cursor: int, oldest: int, newest: int) -> None:
    """Raise CursorGone for a cursor with which a reader would miss events."""
    if cursor < oldest - 1:
        raise CursorGone(
            f"events after {cursor} were removed: read what you follow anew, then go on with after={oldest - 1}",
            oldest - 1,
        )
    if cursor > newest:
        raise CursorGone(
            f"there is no event {cursor} yet: the cursor is of another database; read what you follow anew, then go on"
            f" with after={newest}",
            newest,
        )


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"{value[:LONGEST_TEXT]}…"
    return value


def _stored(row: tuple[Any, ...]) -> StoredEvent:
    number, kind, at, *rest = row
    return StoredEvent(number, kind, f"{at.replace(tzinfo=None).isoformat()}Z", *rest)
