"""The feed under load: thousands of connections, and random changes by many at once, which are counted afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from core.processes import raise_open_files
from tests.support.access import make_key
from tests.support.installation import Installation, wait_for
from tests.support.jobs import OVER, define_scripts

PATH = "/api/v1/events"
WAITING = 600
SHORT_SECONDS, HOUR = 3, 3600
ENOUGH = 200  # events, however slow the machine is
STATUSES = ("queued", "active", "blocked", "completed", "failed")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {
        "LOBWIFE_WAITING_READERS": str(WAITING),
        "LOBWIFE_WAITING_READERS_PER_CALLER": str(WAITING),
        "LOBWIFE_KEEP_EVENTS": "10000000",
        "LOBWIFE_LEASE_BACKOFF_SECONDS": "0",
    }


@pytest.fixture(scope="module")
def running(server: Installation) -> Installation:
    """Web with a daemon and jobs that end well, fail, and take their time."""
    define_scripts(server, {"good.sh": "echo fine", "bad.sh": "exit 3", "long.sh": "sleep 60"})
    server.start_daemon()
    return server


# --- connections
@contextlib.contextmanager
def connections(server: Installation, count: int, key: dict[str, str]) -> Iterator[list[tuple[int, socket.socket]]]:
    """Streams that are opened one after the other, each with the status of its answer."""
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Accept": "text/event-stream", **key}.items())
    asked = f"GET {PATH}?types=task.created HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode()
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.api_port), timeout=60))
            client.sendall(asked)
            opened.append((int(client.recv(4096).split(b" ", 2)[1]), client))
        yield opened


def reads_until(client: socket.socket, text: bytes) -> bool:
    """Return whether a stream brings a text before it ends or says nothing for long."""
    received = b""
    while text not in received:
        if not (data := client.recv(65536)):
            return False
        received = (received + data)[-65536:]
    return True


@pytest.mark.parametrize("count", [WAITING + 50, pytest.param(5000, marks=pytest.mark.soak)])
def test_over_the_bound_readers_are_refused_and_all_others_are_served(server: Installation, count: int) -> None:
    raise_open_files()
    key = make_key(server, f"crowd-{count}", "viewer")
    with connections(server, count, key) as opened:
        assert Counter(status for status, _ in opened) == {200: WAITING, 429: count - WAITING}
        assert max(status for status, _ in opened[:WAITING]) == 200, "the first are the ones that wait"
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert server.get("/health").status == 200
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 3, "what a busy machine takes"
        name = f"while {count} are connected"
        assert server.post("/api/v1/tasks", {"name": name}).status == 201
        assert all(reads_until(client, name.encode()) for status, client in opened if status == 200)
    with connections(server, 1, key) as [(status, _)]:
        assert status == 200, "who has hung up keeps nobody out"


# --- load
class Load:
    """Callers that change tasks, leases, runs and keys at random, and one that reads the feed meanwhile."""

    def __init__(self, server: Installation, callers: int = 6) -> None:
        self.server, self.begin = server, int(server.get(PATH).json["next"])
        self.events: list[dict[str, Any]] = []
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self._stop, self._is_still = threading.Event(), threading.Event()
        self._callers = [
            threading.Thread(target=self._call_at_random, args=(random.Random(n),)) for n in range(callers)
        ]
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Load:
        for thread in (self._reader, *self._callers):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._callers:
            thread.join(60)

    def read_to_the_end(self) -> None:
        """Let the reader go on until there is nothing new."""
        self._is_still.set()
        self._reader.join(120)
        assert not self._reader.is_alive()

    def _read(self) -> None:
        cursor = self.begin
        while True:
            was_still = self._is_still.is_set()
            page = self.server.get(f"{PATH}?after={cursor}&limit=1000&wait={0 if was_still else 1}").json
            self.events += page["events"]
            if was_still and page["next"] == cursor:
                return
            cursor = page["next"]

    def _call_at_random(self, chance: random.Random) -> None:
        while not self._stop.is_set():
            method, path, body, headers = self._choice(chance)
            try:
                answer = self.server.request(method, path, body, headers=headers)
            except TimeoutError:  # a busy machine; the feed and the tables are equal all the same
                self.statuses[0] += 1
                continue
            self.statuses[answer.status] += 1
            if answer.status >= 500 and answer.status != 503:  # 503: others have the lock for long, nothing was done
                self.failures.append(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
            elif path.endswith("/claim") and answer.status == 200 and chance.random() < 0.7:
                self._hand_back(chance, answer.json)

    def _hand_back(self, chance: random.Random, task: dict[str, Any]) -> None:
        body = {"fence": task["lease"]["fence"], "outcome": chance.choice(STATUSES[2:]), "reason": "at random"}
        key = {"Authorization": f"Bearer {task['key']}"}
        self.statuses[self.server.post(f"/api/v1/tasks/{task['id']}/release", body, headers=key).status] += 1

    def _choice(self, chance: random.Random) -> tuple[str, str, Any, dict[str, str]]:
        newest = max(1, len(self.events) // 4)
        task = f"/api/v1/tasks/{chance.randint(max(1, newest - 50), newest + 5)}"
        job, run = chance.choice(("good", "bad", "long")), chance.randint(1, newest)
        calls: tuple[tuple[int, str, str, Any], ...] = (
            (5, "POST", "/api/v1/tasks", {"name": f"n{chance.random()}", "repos": ["acme/web"]}),
            (4, "PATCH", task, {"status": chance.choice(STATUSES)}),
            (2, "PATCH", task, {"assigned_to": chance.choice(("a", "b", ""))}),
            (3, "POST", f"{task}/events", {"event_type": "note", "detail": "x"}),
            (1, "DELETE", task, None),
            (4, "POST", "/api/v1/tasks/claim", {"lease_seconds": 30, "runner": "r"}),
            (1, "POST", f"{task}/release", {"fence": 1, "outcome": "queued"}),
            (1, "POST", f"/api/v1/jobs/{job}/runs", None),
            (1, "POST", f"/api/v1/runs/{run}/abort", None),
            (2, "POST", f"{task}/register", {"repos": ["acme/web"], "lobster_type": "swe"}),
            (1, "DELETE", task.replace("/v1", ""), None),
        )
        _, method, path, body = chance.choices(calls, [call[0] for call in calls])[0]
        return method, path, body, {}


@pytest.mark.parametrize(
    "seconds",
    [
        SHORT_SECONDS,
        pytest.param(
            int(os.environ.get("SOAK_SECONDS", HOUR)),
            marks=pytest.mark.soak,
            id="SOAK_SECONDS",
        ),
    ],
)
def test_the_feed_equals_the_tables_after_random_load(running: Installation, seconds: int) -> None:
    starts = _newest(running)
    end = time.monotonic() + seconds
    with Load(running) as load:
        wait_for(lambda: time.monotonic() > end and len(load.events) > ENOUGH, seconds + 60, "enough has happened")
    for run in _rows(running, "SELECT id FROM jobs_jobrun WHERE ended_at IS NULL"):
        running.post(f"/api/v1/runs/{run[0]}/abort")
    wait_for(lambda: not _rows(running, "SELECT 1 FROM jobs_jobrun WHERE ended_at IS NULL"), 60, "all runs are over")
    load.read_to_the_end()
    assert load.failures == []
    events = load.events
    assert [event["id"] for event in events] == _numbers(running, "events_event", load.begin)
    _compare_histories(running, events, starts["task_events"])
    _compare_leases(running, events, starts["tasks_tasklease"])
    _compare_runs(running, events, starts["jobs_jobrun"])
    audited = _numbers(running, "token_audit", starts["token_audit"])
    assert sum(event["type"].partition(".")[0] in {"token", "registration", "access"} for event in events) == len(
        audited
    )
    print(f"{seconds} s: {len(events)} events, {sum(load.statuses.values())} calls {dict(load.statuses)}")


def _rows(server: Installation, sql: str) -> list[tuple[Any, ...]]:
    with server.database() as database:
        return [tuple(row) for row in database.execute(sql)]


def _newest(server: Installation) -> dict[str, int]:
    tables = ("task_events", "tasks_tasklease", "jobs_jobrun", "token_audit")
    return {table: _rows(server, f"SELECT coalesce(max(id), 0) FROM {table}")[0][0] for table in tables}


def _numbers(server: Installation, table: str, after: int) -> list[int]:
    return [row[0] for row in _rows(server, f"SELECT id FROM {table} WHERE id > {after} ORDER BY id")]


def _compare_histories(server: Installation, events: list[dict[str, Any]], after: int) -> None:
    """Each entry of a task's history is an event, in the same order."""
    noted = [event["data"]["event_id"] for event in events if event["type"].startswith(("task.", "lease."))]
    assert [number for number in noted if number] == _numbers(server, "task_events", after)


def _compare_leases(server: Installation, events: list[dict[str, Any]], after: int) -> None:
    """Each lease was claimed once, and ended once as its row says."""
    ends: dict[tuple[int, int], list[str]] = {}
    for event in events:
        if event["type"].startswith("lease."):
            ends.setdefault((event["data"]["task_id"], event["data"]["fence"]), []).append(event["type"])
    rows = _rows(server, f'SELECT task_id, fence, "end" FROM tasks_tasklease WHERE id > {after}')
    named = {(task, fence): f"lease.{end.replace(' ', '_')}" if end else "" for task, fence, end in rows}
    assert ends == {lease: ["lease.claimed", *([end] if end else [])] for lease, end in named.items()}
    assert rows


def _compare_runs(server: Installation, events: list[dict[str, Any]], after: int) -> None:
    """The last event of each run has its state, and each ended once."""
    states: dict[int, str] = {}
    over: Counter[int] = Counter()
    for event in events:
        if event["type"].startswith("run."):
            states[event["data"]["run_id"]] = event["data"]["state"]
            over[event["data"]["run_id"]] += event["data"]["state"] in OVER
    rows = dict(_rows(server, f"SELECT id, state FROM jobs_jobrun WHERE id > {after}"))
    assert {run: states.get(run) for run in rows} == rows
    assert set(over.values()) == {1}
    assert rows
