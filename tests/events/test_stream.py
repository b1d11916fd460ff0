"""Waiting for events and streams of them, against web as it runs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tests.support.access import make_key
from tests.support.installation import Installation, wait_for, write_locked

LIMIT = 20
PATH = "/api/v1/events"


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {"LOBWIFE_WAITING_READERS_PER_CALLER": str(LIMIT)}


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(50) as executor:
        yield executor


class Stream:
    """An open stream, read event by event."""

    def __init__(self, server: Installation, query: str = "", **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=20)
        self._connection.request("GET", f"{PATH}?{query}", headers={"Accept": "text/event-stream", **headers})
        self.response = self._connection.getresponse()
        self.last_id = ""

    def event(self) -> dict[str, str]:
        """The next event with data; empty when the stream has ended."""
        fields: dict[str, str] = {}
        while line := self.response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            self.last_id = fields.get("id", self.last_id)
            if not line.strip():
                if "data" in fields:
                    return fields
                fields = {}
        return {}

    def data(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.event()["data"])
        return event

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def make(server: Installation, name: str = "Work") -> int:
    return int(server.post("/api/v1/tasks", {"name": name}).json["id"])


def newest(server: Installation) -> int:
    return int(server.get(PATH).json["next"])


def log_many(server: Installation, count: int, size: int) -> None:
    """Write events past the services, all in one transaction."""
    row = ("task.logged", "2026-01-01 00:00:00", "T1", json.dumps({"detail": "x" * size}))
    with write_locked(server) as database:
        newest = database.execute("SELECT coalesce(max(id), 0) FROM events_event").fetchone()[0]
        insert = "INSERT INTO events_event (id, type, at, subject, data) VALUES (?, ?, ?, ?, ?)"
        database.executemany(insert, [(newest + number, *row) for number in range(1, count + 1)])


def test_a_reader_that_waits_gets_what_comes(server: Installation, pool: ThreadPoolExecutor) -> None:
    begin = newest(server)
    waits = pool.submit(server.get, f"{PATH}?after={begin}&types=task.created&wait=20", timeout=30)
    number = make(server)
    answer = waits.result(10).json
    assert [event["subject"] for event in answer["events"]] == [f"T{number}"]
    assert answer["next"] == answer["events"][0]["id"]


def test_a_wait_without_events_ends_in_time_with_a_cursor_past_what_it_did_not_want(server: Installation) -> None:
    begin = newest(server)
    make(server)
    started = time.monotonic()
    answer = server.get(f"{PATH}?after={begin}&types=vault.*&wait=1").json
    assert 0.9 < time.monotonic() - started < 10
    assert answer == {"events": [], "next": newest(server)}


def test_a_stream_shows_the_life_of_a_task_as_it_happens(server: Installation) -> None:
    with closing(Stream(server)) as stream:
        number = make(server)
        assert (stream.response.status, stream.response.headers["Content-Type"]) == (200, "text/event-stream")
        assert stream.data()["type"] == "task.created"
        server.request("PATCH", f"/api/v1/tasks/{number}", {"status": "completed"})
        event = stream.data()
        assert (event["type"], event["subject"], event["data"]["status"]) == ("task.updated", f"T{number}", "completed")


def test_a_stream_goes_on_after_the_last_event_that_a_reader_had(server: Installation) -> None:
    with closing(Stream(server)) as stream:
        make(server, "first")
        assert stream.data()["data"]["name"] == "first"
    make(server, "second")
    with closing(Stream(server, **{"Last-Event-ID": stream.last_id})) as again:
        make(server, "third")
        assert [again.data()["data"]["name"] for _ in range(2)] == ["second", "third"]


def test_a_kill_of_web_in_mid_stream_skips_nothing(fresh: Installation, pool: ThreadPoolExecutor) -> None:
    fresh.migrate()
    web = fresh.start_web()
    names: list[str] = []
    with closing(Stream(fresh)) as stream:
        for number in range(5):
            make(fresh, f"n{number}")
        names += [stream.data()["data"]["name"] for _ in range(3)]
        os.killpg(web.pid, signal.SIGKILL)
    web.wait(10)
    fresh.start_web()
    make(fresh, "n5")
    with closing(Stream(fresh, **{"Last-Event-ID": stream.last_id})) as again:
        names += [again.data()["data"]["name"] for _ in range(3)]
    assert names == [f"n{number}" for number in range(6)]


def test_a_revoked_key_ends_its_stream(server: Installation) -> None:
    key = make_key(server, "reader", "viewer", "--days", "1")
    with closing(Stream(server, "types=task.*", **key, **{"X-Forwarded-For": "10.1.2.3"})) as stream:
        make(server)
        assert stream.data()["type"] == "task.created"
        server.manage("apikey", "revoke", "reader")
        began = time.monotonic()
        assert stream.event() == {}
        assert time.monotonic() - began < 10


def test_the_end_of_a_lease_ends_the_stream_of_its_agent(server: Installation) -> None:
    make(server)
    claimed = server.post("/api/v1/tasks/claim", {"runner": "box"}).json
    own = {"Authorization": f"Bearer {claimed['key']}", "X-Forwarded-For": "10.1.2.3"}
    with closing(Stream(server, **own)) as stream:
        make(server)  # another's
        server.request("PATCH", f"/api/v1/tasks/{claimed['id']}", {"status": "queued"})
        seen = []
        while event := stream.event():
            seen.append(json.loads(event["data"])["type"])
    assert set(seen) == {"task.updated", "lease.taken_away"}


def test_a_reader_that_stops_reading_is_let_go_and_costs_the_others_nothing(server: Installation) -> None:
    with closing(socket.socket()) as silent, closing(Stream(server, "types=task.created")) as other:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", server.api_port))
        silent.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        assert silent.recv(5) == b"HTTP/"
        for _ in range(6):
            log_many(server, 500, 10_000)
            make(server)
            assert other.data()["type"] == "task.created"
        silent.settimeout(30)
        received, last = 0, b""
        while chunk := _received(silent):
            received, last = received + len(chunk), (last + chunk)[-2000:]
        assert received < 30_000_000  # of 30 MB
        assert b"event: behind" in last or received < 25_000_000


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(2**20)
    except ConnectionResetError:
        return b""


def test_so_many_of_one_caller_wait_and_no_more(server: Installation) -> None:
    key = make_key(server, "crowd", "viewer") | {"X-Forwarded-For": "10.1.2.3"}
    streams = [Stream(server, **key) for _ in range(LIMIT + 2)]
    statuses = [stream.response.status for stream in streams]
    refused = streams[-1].response
    assert sorted(statuses) == [200] * LIMIT + [429, 429]
    assert (refused.headers["Retry-After"], "too many readers" in refused.read().decode()) == ("5", True)
    for stream in streams:
        stream.close()
    with closing(Stream(server, **key)) as stream:
        assert stream.response.status == 200, "who has hung up keeps nobody out"


def test_web_stops_without_waiting_for_streams(fresh: Installation) -> None:
    fresh.migrate()
    web = fresh.start_web()
    with closing(Stream(fresh)) as stream:
        os.kill(web.pid, signal.SIGTERM)
        assert stream.event() == {}
    wait_for(lambda: web.poll() is not None)
