"""Clients that load an installation through its front, and note what was acknowledged."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.installation import Answer

LEASE_SECONDS = 15
PATIENCE_SECONDS = 240.0  # of a client that asks again until it is answered
_BUSY = (429, 502, 503)


@dataclass
class Beat:
    """A heartbeat that said that its holder may go on; times are monotonic."""

    task: int
    fence: int
    sent_at: float


@dataclass
class Read:
    """What a reader of the feed got: the id it began after, and its events as (id, digest)."""

    began_after: int
    events: list[tuple[int, str]] = field(default_factory=list)


class Load:
    """Clients in threads. What they were answered stays here; `errors` are answers that nobody may get."""

    def __init__(self, port: int, *, seed: int) -> None:
        self._port, self._seed = port, seed
        self._stop, self._stop_reading = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._readers: list[threading.Thread] = []
        self.errors: list[str] = []
        self.calls = self.failures = 0
        self.created: dict[str, int] = {}  # name to id
        self.tried_once: set[str] = set()  # names of tasks that may be there
        self.changes: dict[int, list[str]] = {}  # by task, in order
        self.claims: dict[tuple[int, int], float] = {}  # task and fence to when it was answered
        self.beats: list[Beat] = []
        self.releases: dict[tuple[int, int], str] = {}
        self.runs: dict[int, str] = {}
        self.aborts: set[int] = set()
        self.reads: list[Read] = []

    # --- threads
    def start(self, *, creators: int = 2, changers: int = 2, agents: int = 6, readers: int = 3) -> None:
        clients = [
            *[self._create] * creators,
            *[self._change] * changers,
            *[self._work] * agents,
            self._trigger,
            self._trigger,
            self._abort,
        ]
        self._threads = [self._thread(client, number) for number, client in enumerate(clients)]
        feed = [*[self._read_pages] * readers, self._read_stream]
        self._readers = [self._thread(client, 100 + number) for number, client in enumerate(feed)]

    def stop(self) -> None:
        """Let each client finish what it is at."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS + 60)

    def stop_reading(self) -> None:
        self._stop_reading.set()
        for thread in self._readers:
            thread.join(90)

    def has_read(self, newest: int) -> bool:
        """Return whether all readers have what is in the feed."""
        return all((read.events[-1][0] if read.events else read.began_after) >= newest for read in self.reads)

    def _thread(self, client: Callable[[random.Random], None], number: int) -> threading.Thread:
        def live() -> None:
            try:
                client(random.Random(self._seed + number))
            except Exception as error:  # a client that died would have nothing to account for
                self.errors.append(f"{client.__name__}: {error!r}")

        thread = threading.Thread(target=live, daemon=True)
        thread.start()
        return thread

    # --- calls
    def _call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 20
    ) -> Answer | None:
        """Call once; None when there was no answer."""
        self.calls += 1
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers or {})
            response = connection.getresponse()
            answer = Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException):
            self.failures += 1
            return None
        finally:
            connection.close()
        self.failures += answer.status in _BUSY
        if answer.status >= 500 and answer.status not in _BUSY:
            self.errors.append(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer

    def _insist(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer | None:
        """Call until there is an answer that is one, after the load's end too."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer = self._call(method, path, body, headers)
            if answer is not None and answer.status not in _BUSY:
                return answer
            time.sleep(0.2)
        self.errors.append(f"{method} {path}: no answer for {PATIENCE_SECONDS:.0f} s")
        return None

    def _create_task(self, chance: random.Random) -> int | None:
        name = f"task {uuid.UUID(int=chance.getrandbits(128))}"
        body = {"name": name, "priority": chance.choice(["low", "normal", "high"])}
        if chance.random() < 0.2:
            self.tried_once.add(name)
            answer = self._call("POST", "/api/v1/tasks", body)
        else:
            answer = self._insist("POST", "/api/v1/tasks", body, {"Idempotency-Key": name.replace(" ", "-")})
        if answer is None or answer.status in _BUSY:
            return None
        if answer.status != 201:
            self.errors.append(f"a task was not created: {answer.status} {answer.body!r}")
            return None
        self.created[name] = answer.json["id"]
        return int(answer.json["id"])

    # --- clients
    def _create(self, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(0.05, 0.4)):
            self._create_task(chance)

    def _change(self, chance: random.Random) -> None:
        """Give tasks of its own one value after the other."""
        own = [number for _ in range(3) if (number := self._create_task(chance))]
        for number in own:
            self._insist("PATCH", f"/api/v1/tasks/{number}", {"status": "blocked"})  # nobody claims it
            self.changes[number] = []
        value = 0
        while own and not self._stop.wait(chance.uniform(0.05, 0.3)):
            value += 1
            number = chance.choice(own)
            answer = self._insist("PATCH", f"/api/v1/tasks/{number}", {"model": f"value {value}"})
            if answer is not None and answer.status == 200:
                self.changes[number].append(f"value {value}")
            elif answer is not None:
                self.errors.append(f"T{number} was not changed: {answer.status} {answer.body!r}")

    def _work(self, chance: random.Random) -> None:
        """Claim, beat and hand back; now and then die without a word."""
        while not self._stop.is_set():
            wanted = {"lease_seconds": LEASE_SECONDS, "wait_seconds": 2}
            claimed = self._call("POST", "/api/v1/tasks/claim", wanted)
            if claimed is None or claimed.status != 200:
                self._stop.wait(0.2)
                continue
            task = claimed.json
            number, fence = task["id"], task["lease"]["fence"]
            agent = {"Authorization": f"Bearer {task['key']}"}
            if (number, fence) in self.claims:
                self.errors.append(f"fence {fence} of T{number} was handed out twice")
            self.claims[number, fence] = time.monotonic()
            for _ in range(chance.randrange(5)):
                self._stop.wait(chance.uniform(0.1, 1.0))
                sent_at = time.monotonic()
                beat = self._call("POST", f"/api/v1/tasks/{number}/heartbeat", {"fence": fence}, agent)
                if beat is not None and beat.status == 200 and not beat.json["stop"]:
                    self.beats.append(Beat(number, fence, sent_at))
            if chance.random() < 0.1:
                continue
            outcome = chance.choice(["completed", "completed", "failed", "queued"])
            body = {"fence": fence, "outcome": outcome}
            released = self._insist("POST", f"/api/v1/tasks/{number}/release", body, agent)
            if released is not None and released.status == 200:
                self.releases[number, fence] = outcome
            elif released is not None and released.status not in (401, 409):
                self.errors.append(f"T{number} was not released: {released.status} {released.body!r}")

    def _trigger(self, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(0.1, 0.8)):
            job = chance.choice(["short", "short", "long", "long", "narrow", "again"])
            key = {"Idempotency-Key": f"{job}-{uuid.UUID(int=chance.getrandbits(128))}"}
            answer = self._insist("POST", f"/api/v1/jobs/{job}/runs", None, key)
            if answer is not None and answer.status == 201:
                self.runs[answer.json["id"]] = job
            elif answer is not None and answer.status != 409:
                self.errors.append(f"{job} was not triggered: {answer.status} {answer.body!r}")

    def _abort(self, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(2, 6)):
            answer = self._call("GET", "/api/v1/runs?job=long&state=running")
            if answer is None or answer.status != 200 or not answer.json:
                continue
            run = chance.choice(answer.json)["id"]
            aborted = self._call("POST", f"/api/v1/runs/{run}/abort")
            if aborted is not None and aborted.status == 200:
                self.aborts.add(run)

    def _read_pages(self, chance: random.Random) -> None:
        begin = self._insist("GET", "/api/v1/events")
        read = Read(begin.json["next"] if begin else 0)
        self.reads.append(read)
        cursor = read.began_after
        while not self._stop_reading.is_set():
            answer = self._call("GET", f"/api/v1/events?after={cursor}&limit=200&wait={chance.randrange(4)}")
            if answer is None or answer.status in _BUSY:
                self._stop_reading.wait(0.2)
            elif answer.status == 200:
                read.events += [(event["id"], digest(event)) for event in answer.json["events"]]
                cursor = answer.json["next"]
            else:
                self.errors.append(f"the feed after {cursor}: {answer.status} {answer.body!r}")
                return

    def _read_stream(self, chance: random.Random) -> None:
        begin = self._insist("GET", "/api/v1/events")
        read = Read(begin.json["next"] if begin else 0)
        self.reads.append(read)
        cursor = str(read.began_after)
        while not self._stop_reading.is_set():
            headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/api/v1/events", headers=headers)
                response = connection.getresponse()
                if response.status != 200:
                    if response.status not in _BUSY:
                        self.errors.append(f"the stream after {cursor}: {response.status} {response.read()!r}")
                        return
                    self._stop_reading.wait(0.2)
                lines: dict[str, str] = {}
                while response.status == 200 and (line := response.readline()) and not self._stop_reading.is_set():
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name:
                        lines[name] = value
                        continue
                    if "data" in lines and "event" not in lines:
                        event = json.loads(lines["data"])
                        read.events.append((event["id"], digest(event)))
                    cursor = lines.get("id", cursor)  # counts only once its message is whole
                    lines = {}
            connection.close()
            self._stop_reading.wait(0.1)


def digest(event: dict[str, Any]) -> str:
    """Return what tells one event from another."""
    return hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()[:16]
