"""Readers that wait for events: one look at the feed serves all that wait in a process.

A waiting reader holds no thread, no connection to the database and no lock; under gevent it is a greenlet.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson
from django.conf import settings
from django.db import connection
from django.db.utils import DatabaseError

from core.database.watcher import Watcher, watcher
from core.errors import TooManyRequests
from events.services import MOST_AT_ONCE, CursorGone, StoredEvent, newest_id, read_after

log = logging.getLogger(__name__)
# A reader may fall so many events behind before it has to read on from a cursor.
FURTHEST_BEHIND = 1000
_CHECK_SECONDS = 4.0
_RETRY_AFTER_SECONDS = 5


class Wanted(NamedTuple):
    """What a reader wants: these types, this task; None for all."""

    types: frozenset[str] | None = None
    task: int | None = None

    def matches(self, event: StoredEvent) -> bool:
        return (self.types is None or event.type in self.types) and self.task in (None, event.task_id)


class Encoded(NamedTuple):
    """An event as JSON, which all readers share."""

    id: int
    json: bytes


class Reader:
    """One that waits. `credential` names what it was admitted with, `is_admitted` asks whether that is still good."""

    def __init__(
        self,
        wanted: Wanted,
        caller: str,
        credential: str,
        is_admitted: Callable[[], bool],
        is_gone: Callable[[], bool],
    ) -> None:
        self.wanted, self.caller, self.credential = wanted, caller, credential
        self.is_admitted, self.is_gone = is_admitted, is_gone
        self.is_over = self.is_behind = False
        self._events: deque[Encoded] = deque()
        self._is_woken = threading.Event()

    def add(self, events: Sequence[Encoded]) -> None:
        """Hand it events; nothing any more once it is too far behind."""
        if self.is_behind or len(self._events) + len(events) > FURTHEST_BEHIND:
            self.is_behind = True
            self._events.clear()
        else:
            self._events.extend(events)
        self._is_woken.set()

    def end(self) -> None:
        """Have it go."""
        self.is_over = True
        self._is_woken.set()

    def wait(self, seconds: float) -> list[Encoded]:
        """Return the events that have come, as soon as there is one; none in time, or when it is over or behind."""
        self._is_woken.wait(seconds)
        self._is_woken.clear()
        events = [self._events.popleft() for _ in range(len(self._events))]
        return [] if self.is_behind else events


class Readers:
    """The readers that wait in this process."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._lock = threading.Lock()
        self._readers: dict[Reader, None] = {}
        self._by_wanted: dict[Wanted, dict[Reader, None]] = {}  # a commit costs as much as there are kinds of readers
        self._by_caller: Counter[str] = Counter()
        self._is_closed = False
        self._checked_at = 0.0
        self._is_checking = False
        self.cursor = 0  # all readers have been handed what comes up to here

    def enter(self, reader: Reader) -> None:
        """Hand a reader what comes from now on; raises TooManyRequests when too many wait already."""
        with self._lock:
            if self._is_full(reader.caller):
                self._drop_gone()
            if self._is_full(reader.caller):
                own = self._by_caller[reader.caller]
                who = f"readers of {reader.caller}" if own >= settings.WAITING_READERS_PER_CALLER else "readers"
                raise TooManyRequests(
                    f"too many {who} wait for events already; try again in {_RETRY_AFTER_SECONDS} s",
                    retry_after=_RETRY_AFTER_SECONDS,
                )
            if not self._readers:
                self.cursor = newest_id()
            self._readers[reader] = None
            self._by_wanted.setdefault(reader.wanted, {})[reader] = None
            self._by_caller[reader.caller] += 1
            reader.is_over = self._is_closed
        self._watcher.watch_for(self)

    def leave(self, reader: Reader) -> None:
        """Hand a reader nothing any more."""
        with self._lock:
            self._drop(reader)

    def is_empty(self) -> bool:
        """Return whether no reader waits."""
        return not self._readers

    def look(self) -> None:
        """Hand out what is new, and now and then begin to end readers whose credential is no good any more."""
        with self._lock:
            try:
                is_more = True
                while is_more:
                    page = read_after(self.cursor)
                    if page.events:
                        self._hand_out(page.events)
                    is_more = page.next - self.cursor >= MOST_AT_ONCE  # fewer ids: it was read to the end
                    self.cursor = page.next
            except CursorGone as gone:  # nobody looked for longer than events are kept
                for reader in self._readers:
                    reader.is_behind = True
                    reader.add([])
                self.cursor = gone.next
        if time.monotonic() - self._checked_at > _CHECK_SECONDS and not self._is_checking:
            self._is_checking = True
            threading.Thread(target=self._check, name="check of readers", daemon=True).start()

    def close(self) -> None:
        """Have everybody go, and nobody wait any more: the process stops."""
        self._is_closed = True
        for reader in list(self._readers):
            reader.end()

    def _is_full(self, caller: str) -> bool:
        own = self._by_caller[caller]
        return len(self._readers) >= settings.WAITING_READERS or own >= settings.WAITING_READERS_PER_CALLER

    def _drop(self, reader: Reader) -> None:
        if reader in self._readers:
            del self._readers[reader]
            alike = self._by_wanted[reader.wanted]
            del alike[reader]
            if not alike:
                del self._by_wanted[reader.wanted]
            self._by_caller[reader.caller] -= 1
            if not self._by_caller[reader.caller]:
                del self._by_caller[reader.caller]

    def _drop_gone(self) -> None:
        """Let those go whose client has hung up, which is found out else when something is sent."""
        for reader in list(self._readers):
            if reader.is_gone():
                self._drop(reader)
                reader.end()

    def _hand_out(self, events: Sequence[StoredEvent]) -> None:
        encoded: dict[int, Encoded] = {}  # what nobody wants is not
        for wanted, readers in self._by_wanted.items():
            matching = [event for event in events if wanted.matches(event)]
            for event in matching:
                if event.id not in encoded:
                    encoded[event.id] = encode(event)
            if matching:
                shared = [encoded[event.id] for event in matching]
                for reader in readers:
                    reader.add(shared)

    def _check(self) -> None:
        """Ask once for each credential, not for each reader; in a thread, since a cluster may be slow to answer."""
        good: dict[str, bool] = {}
        try:
            for reader in list(self._readers):
                if reader.credential not in good:
                    good[reader.credential] = reader.is_admitted()
                if not good[reader.credential]:
                    reader.end()
        except DatabaseError as error:
            log.warning("credentials of readers could not be checked: %s", error)
        finally:
            connection.close()
            self._checked_at, self._is_checking = time.monotonic(), False


def encode(event: StoredEvent) -> Encoded:
    """Return an event as it is sent."""
    return Encoded(event.id, orjson.dumps(event.as_dict()))


@functools.cache
def _readers_beside(watcher: Watcher) -> Readers:
    return Readers(watcher)


def readers() -> Readers:
    """Return this process's readers; a forked child has its own."""
    return _readers_beside(watcher())
