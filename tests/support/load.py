"""Load on the REST ports of a running lobwife, and what processes take meanwhile: what benches share."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.support.installation import Installation

NEW = {"name": "Load", "type": "swe", "priority": "high", "repos": ["org/repo"], "estimate_minutes": 30}
CHANGE = {"status": "active", "assigned_to": "lobster-1", "actor": "load"}
EVENT = {"event_type": "note", "detail": "load", "actor": "load"}
PATHS: list[tuple[str, str, str, dict[str, object] | None]] = [
    ("health", "GET", "/health", None),
    ("get task", "GET", "/api/v1/tasks/{id}", None),
    ("list 100", "GET", "/api/v1/tasks?limit=100", None),
    ("list 20 filtered", "GET", "/api/v1/tasks?status=queued&type=swe&limit=20", None),
    ("create task", "POST", "/api/v1/tasks", NEW),
    ("update task", "PATCH", "/api/v1/tasks/{id}", CHANGE),
    ("log event", "POST", "/api/v1/tasks/{id}/events", EVENT),
]
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_CALL = 'wrk.method="%s"; wrk.headers["Content-Type"]="application/json"; wrk.body=[[%s]]'


@dataclass
class Load:
    """What one turn of wrk measured."""

    per_second: float
    p99_ms: float
    failed: int


def wrk(url: str, script: str = "", *, clients: int, seconds: float, threads: int = 1) -> Load:
    """Load a URL with clients that each send one request after the other; raises RuntimeError."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", f"-t{threads}", f"-c{clients}", f"-d{seconds}", "--latency", "-s", file.name, url]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    latency = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    if not latency or not rate:
        raise RuntimeError(f"wrk said nothing to measure by:\n{out}")
    failed = int(refused[1]) if refused else 0
    failed += sum(int(count) for count in broken.groups()) if broken else 0
    return Load(float(rate[1]), float(latency[1]) * _MILLISECONDS[latency[2]], failed)


def call_script(method: str, body: dict[str, object] | None) -> str:
    """Return the script of wrk that sends a body; none for a plain GET."""
    return _CALL % (method, json.dumps(body)) if body else ""


class Client:
    """A connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = json.dumps(body).encode() if body is not None else None
        self._connection.request(method, path, data)
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None


def seed_tasks(installation: Installation, count: int) -> None:
    """Put tasks into SQLite as an installation of some age has them: mostly over, a few assigned."""
    statuses = ("completed", "completed", "completed", "failed", "queued", "active", "cancelled", "blocked")
    rows = [
        (f"Task {n}", statuses[n % 8], ("swe", "qa", "research")[n % 3], '["org/repo"]', 30 + n % 60)
        for n in range(count)
    ]
    with installation.database() as database:
        database.executemany(
            "INSERT INTO tasks (name, status, type, repos, estimate_minutes) VALUES (?, ?, ?, ?, ?)", rows
        )
        database.execute(
            "INSERT INTO task_events (task_id, event_type, detail) SELECT id, 'created', 'Task created' FROM tasks"
        )


def new_task(port: int) -> int:
    """Make a task that the load then reads and changes; return its id."""
    return int(Client(port).call("POST", "/api/v1/tasks", {"name": "load target"})[1]["id"])


# --- claims
def claim_alone(port: int, count: int) -> float:
    """Return the median of claims one after another, in milliseconds: what one costs, with nobody to wait for."""
    client, times = Client(port), []
    for _ in range(count):
        began = time.perf_counter()
        client.call("POST", "/api/v1/tasks/claim", {"types": ["swe", "qa"]})
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


@dataclass
class ClaimLoad:
    """What clients measured that claimed, beat and released; the times are in seconds."""

    seconds: float = 0.0
    claims: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    empty: int = 0
    refused: int = 0

    @property
    def per_second(self) -> float:
        """Claims that were answered with a task, each with its heartbeat and release."""
        return len(self.claims) / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.per_second:.0f} claims/s with a heartbeat and a release each; claim median"
            f" {statistics.median(self.claims) * 1000:.1f} ms, p99 {p99(self.claims):.1f} ms; heartbeat and release p99"
            f" {p99(self.others):.1f} ms; {self.empty} without a task, {self.refused} refused"
        )


def claim_together(port: int, clients: int, cycles: int, load: ClaimLoad, *, per_second: float = 0) -> None:
    """Let clients claim, beat and release, at most so often together, and add what they measure to `load`.

    Every third client names types, every third types and repositories; 0 is as often as they can.
    """
    wanted = [{}, {"types": ["swe", "qa"]}, {"types": ["swe"], "repos": ["org/repo-1", "org/repo-2", "org/repo-3"]}]
    apart = clients / per_second if per_second else 0

    def timed_call(client: Client, path: str, body: Any, times: list[float]) -> tuple[int, Any]:
        began = time.perf_counter()
        status, answer = client.call("POST", path, body)
        if status == 200:
            times.append(time.perf_counter() - began)
        return status, answer

    def run(number: int) -> None:
        client, due = Client(port), time.monotonic() + random.uniform(0, apart)  # noqa: S311
        for _ in range(cycles // clients):
            time.sleep(max(0, due - time.monotonic()))
            due += apart
            status, task = timed_call(client, "/api/v1/tasks/claim", wanted[number % 3], load.claims)
            if status != 200:
                load.empty += 1
                continue
            path, fence = f"/api/v1/tasks/{task['id']}", task["lease"]["fence"]
            for call, body in (("heartbeat", {"fence": fence}), ("release", {"fence": fence, "outcome": "completed"})):
                status, _ = timed_call(client, f"{path}/{call}", body, load.others)
                load.refused += status != 200

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))
    load.seconds += time.perf_counter() - began


def p99(seconds: Sequence[float]) -> float:
    """Return the 99th percentile, in milliseconds."""
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * 0.99))] * 1000


# --- processes
def processor_seconds(*roots: int) -> float:
    """Return what processes and all below them have used so far, those that ended included."""
    ticks, pids = 0, list(roots)
    while pids:
        pid = pids.pop()
        folder = pathlib.Path("/proc", str(pid))
        with contextlib.suppress(OSError):  # it may end meanwhile
            ticks += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:15]))
            for children in folder.glob("task/*/children"):
                pids += [int(child) for child in children.read_text().split()]
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(call: Callable[[], Any], *roots: int) -> tuple[Any, float]:
    """Return what a call returns, and the processor seconds that these processes took meanwhile."""
    before = processor_seconds(*roots)
    result = call()
    return result, processor_seconds(*roots) - before
