"""REST route of the feed: a page of events at once, as soon as there is one, or as a stream of server-sent events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import orjson
from django.db import close_old_connections, connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from ninja import Router, Schema
from pydantic import ConfigDict

from access.authentication import is_cross_site
from core.callers import Caller, Role, caller_of
from core.errors import Forbidden, Invalid
from core.rest import JSON, Problem, integer_parameter, is_gone, json_response, parameters, query_parameter
from events.readers import Encoded, Reader, Wanted, encode, readers
from events.services import MOST_AT_ONCE, CursorGone, newest_id, read_after
from events.types import AUDIT, TYPES, expand
from tasks.ids import parse_path_id

STREAM = "text/event-stream"
KEEP_ALIVE_SECONDS = 15.0
_DEFAULT_LIMIT = 100
_LONGEST_WAIT = 60
_RECONNECT_MS = 2000
_READS_ALL = (Role.OPERATOR, Role.VIEWER)
_WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
_PARAMETERS = [
    *parameters(
        "types",
        "task",
        after=_WHOLE,
        limit={**_WHOLE, "default": _DEFAULT_LIMIT, "maximum": MOST_AT_ONCE},
        wait={**_WHOLE, "default": 0, "maximum": _LONGEST_WAIT},
    ),
    *parameters(**{"Last-Event-ID": _WHOLE}, place="header"),
]
_STREAMED = 'id: 4711\ndata: {"id":4711,"type":"task.logged","subject":"T42", …}\n\n'
router = Router(tags=["events"])


_EXAMPLE: dict[str, Any] = {
    "id": 4711,
    "type": "task.logged",
    "at": "2026-02-16T12:00:00.123456Z",
    "subject": "T42",
    "actor": "lobster-swe-t42",
    "caller": "lease:T42/1",
    "data": {"task_id": 42, "event_id": 1203, "status": "active", "detail": "half", "event_type": "progress"},
}


class FeedEvent(Schema):
    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: int
    type: str
    at: str
    subject: str
    actor: str | None
    caller: str | None
    data: dict[str, Any]


class EventPage(Schema):
    model_config = ConfigDict(json_schema_extra={"example": {"events": [_EXAMPLE], "next": 4711}})

    events: list[FeedEvent]
    next: int


class CursorProblem(Problem):
    next: int


@router.get(
    "/v1/events",
    response={200: EventPage, 400: Problem, 403: Problem, 404: Problem, 410: CursorProblem, 429: Problem, 503: Problem},
    openapi_extra={
        "parameters": _PARAMETERS,
        "responses": {200: {"content": {STREAM: {"schema": {"type": "string"}, "example": _STREAMED}}}},
    },
)
def read_events(request: HttpRequest) -> HttpResponseBase:
    """Read the feed: everything that happened, in one order. docs/events.md has the types and their fields.

    `next` is the cursor for the next call: with `after=next` nothing is skipped and nothing comes twice. Without
    `after` it begins now, and `next` is where that is. `wait` answers as soon as something matches, at the latest after
    so many seconds. With `Accept: text/event-stream` the events come as a stream, each with its `id`; it goes on after
    the header `Last-Event-ID`. An agent reads what concerns its own task; tokens, keys, refusals and changes by
    operators are for operators and viewers alone. A cursor that wants events which are removed is a 410, with the
    cursor to go on with.
    """
    if is_cross_site(request):
        raise Forbidden("a page of another site may not read events")
    wanted, cursor = _wanted(request, caller_of(request)), _cursor(request)
    limit = min(integer_parameter(request, "limit", _DEFAULT_LIMIT), MOST_AT_ONCE)
    seconds = integer_parameter(request, "wait", 0)
    if seconds > _LONGEST_WAIT or not limit:
        raise Invalid(f"wait is at most {_LONGEST_WAIT} seconds" if limit else "limit must be 1 or more")
    try:
        if STREAM in request.META.get("HTTP_ACCEPT", ""):
            return _stream(request, wanted, cursor)
        return _page(request, wanted, cursor, limit, seconds)
    except CursorGone as gone:
        return json_response({"error": str(gone), "next": gone.next}, gone.status)


def _cursor(request: HttpRequest) -> int:
    last = request.META.get("HTTP_LAST_EVENT_ID", "")
    if last:
        if not (last.isascii() and last.isdigit() and len(last) < 19):
            raise Invalid("Last-Event-ID must be the id of an event")
        return int(last)
    after = integer_parameter(request, "after", None)
    return newest_id() if after is None else after


def _wanted(request: HttpRequest, caller: Caller) -> Wanted:
    """Return what the caller asks for and may see; raises Invalid, Forbidden, NotFound."""
    names = (query_parameter(request, "types") or "").replace(",", " ").split()
    types = expand(names) if names else None
    text = query_parameter(request, "task")
    task = parse_path_id(text) if text is not None else None
    if caller.role in _READS_ALL:
        return Wanted(types, task)
    refused = sorted(AUDIT.intersection(names))
    types = (types or frozenset(TYPES)) - AUDIT
    if refused or not types:
        raise Forbidden(f"{refused[0] if refused else names[0]} is for the roles operator and viewer")
    if caller.is_agent:
        if task is not None:
            caller.require_task(task, name=f"T{task}")
        task = caller.task_id or 0
    return Wanted(types, task)


def _reader(request: HttpRequest, wanted: Wanted) -> Reader:
    caller = caller_of(request)
    credential = request.META.get("HTTP_AUTHORIZATION") or request.META.get("HTTP_COOKIE") or caller.address
    is_admitted = request.is_admitted  # type: ignore[attr-defined]
    return Reader(wanted, caller.identity or caller.address, credential, is_admitted, partial(is_gone, request))


def _first(wanted: Wanted, cursor: int, limit: int) -> tuple[list[Encoded], int]:
    """Read until something matches, or until now; returns it, and the cursor behind it. Raises CursorGone."""
    while True:
        page = read_after(cursor, types=wanted.types, task=wanted.task, limit=limit)
        if page.events or page.next == cursor:
            if not connection.in_atomic_block:
                close_old_connections()  # the connection goes back before anything waits
            return [encode(event) for event in page.events], page.next
        cursor = page.next


# --- a page
def _page(request: HttpRequest, wanted: Wanted, cursor: int, limit: int, seconds: int) -> HttpResponse:
    events, cursor = _first(wanted, cursor, limit)
    if not events and seconds:
        events, cursor = _wait(request, wanted, cursor, limit, seconds)
    body = b'{"events":[%b],"next":%d}' % (b",".join(event.json for event in events), cursor)
    return HttpResponse(body, content_type=JSON)


def _wait(request: HttpRequest, wanted: Wanted, cursor: int, limit: int, seconds: int) -> tuple[list[Encoded], int]:
    reader, deadline = _reader(request, wanted), time.monotonic() + seconds
    readers().enter(reader)
    try:
        events, cursor = _first(wanted, cursor, limit)  # what came before it entered
        while not events and (left := deadline - time.monotonic()) > 0 and not (reader.is_over or is_gone(request)):
            reached = readers().cursor
            events = [each for each in reader.wait(min(left, KEEP_ALIVE_SECONDS)) if each.id > cursor][:limit]
            if reader.is_behind:
                return _first(wanted, cursor, limit)
            cursor = events[-1].id if events else max(cursor, reached)
        return events, cursor
    finally:
        readers().leave(reader)


# --- a stream
class EventStream:
    """The chunks of a stream. It is closed also when nobody has begun to read it."""

    def __init__(self, request: HttpRequest, wanted: Wanted, cursor: int) -> None:
        self._reader, self._wanted, self._cursor = _reader(request, wanted), wanted, cursor
        self._socket = request.META.get("gunicorn.socket")
        readers().enter(self._reader)  # first, so that nothing comes between what is read and what is handed out
        try:
            self._caught_up = _first(wanted, cursor, MOST_AT_ONCE)
        except BaseException:
            self.close()
            raise
        self._chunks = self._generate()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        if self._socket is not None:
            self._socket.begin_request()  # each chunk has its own time to be read in
        return chunk

    def close(self) -> None:
        """Let the reader go."""
        readers().leave(self._reader)

    def _generate(self) -> Iterator[bytes]:
        yield b"retry: %d\nid: %d\n\n" % (_RECONNECT_MS, self._cursor)
        try:
            yield from self._past()
        except CursorGone as gone:
            yield self._farewell("gone", gone.next, str(gone))
            return
        while not self._reader.is_over:
            reached = readers().cursor
            # On whole seconds: to wake for one of a thousand streams costs as much as for the seventy of a second.
            pause = KEEP_ALIVE_SECONDS - time.monotonic() % 1
            events = [event for event in self._reader.wait(pause) if event.id > self._cursor]
            if self._reader.is_behind:
                yield self._farewell("behind", self._cursor, "too many events came meanwhile: go on after this cursor")
                return
            if events:
                yield self._sent(events)
            elif not self._reader.is_over:
                self._cursor = max(self._cursor, reached)
                yield b": nothing new\nid: %d\n\n" % self._cursor

    def _past(self) -> Iterator[bytes]:
        """Yield what the feed has from before the reader entered."""
        events, reached = self._caught_up
        while (events or reached > self._cursor) and not self._reader.is_over:
            if events:
                yield self._sent(events)
            self._cursor = reached
            events, reached = _first(self._wanted, self._cursor, MOST_AT_ONCE)

    def _sent(self, events: Sequence[Encoded]) -> bytes:
        self._cursor = events[-1].id
        return b"".join(b"id: %d\ndata: %b\n\n" % event for event in events)

    def _farewell(self, kind: str, cursor: int, sentence: str) -> bytes:
        """The last event of a stream: the cursor to go on with, and why it ends."""
        data = orjson.dumps({"error": sentence, "next": cursor})
        return b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), cursor, data)


def _stream(request: HttpRequest, wanted: Wanted, cursor: int) -> HttpResponseBase:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy is to pass on each event at once
    if request.META["REQUEST_METHOD"] == "HEAD":
        return HttpResponse(content_type=STREAM, headers=headers)
    stream = EventStream(request, wanted, cursor)
    return StreamingHttpResponse(stream, content_type=STREAM, headers=headers)
