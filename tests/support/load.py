"""Load on the REST ports of a running lobwife, and what processes take meanwhile: what benches share."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


def claim_together(port: int, clients: int, cycles: int) -> str:
    """Let clients claim, beat and release; every third names its types, every third types and repositories."""
    wanted = [{}, {"types": ["swe", "qa"]}, {"types": ["swe"], "repos": ["org/repo-1", "org/repo-2", "org/repo-3"]}]
    claims: list[float] = []
    others: list[float] = []
    empty: list[int] = []
    refused: list[int] = []

    def run(number: int) -> None:
        client = Client(port)
        for _ in range(cycles // clients):
            began = time.perf_counter()
            status, task = client.call("POST", "/api/v1/tasks/claim", wanted[number % 3])
            claims.append(time.perf_counter() - began)
            if status != 200:
                empty.append(status)
                continue
            path, fence = f"/api/v1/tasks/{task['id']}", task["lease"]["fence"]
            for call, body in (("heartbeat", {"fence": fence}), ("release", {"fence": fence, "outcome": "completed"})):
                began = time.perf_counter()
                status, _ = client.call("POST", f"{path}/{call}", body)
                others.append(time.perf_counter() - began)
                refused.extend([status] if status != 200 else [])

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))
    seconds = time.perf_counter() - began
    return (
        f"{clients} clients: {len(claims) / seconds:.0f} claims/s with a heartbeat and a release each; claim median"
        f" {statistics.median(claims) * 1000:.1f} ms, p99 {p99(claims):.1f} ms; heartbeat and release p99"
        f" {p99(others):.1f} ms; {len(empty)} without a task, {len(refused)} refused"
    )


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
