"""Kills at random, for some time; then everything settles, and the account is made."""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from tests.support.installation import wait_for
from tests.support.kills.account import Entry, account
from tests.support.kills.fleet import START_SECONDS, Fleet, Node
from tests.support.kills.jobs import JOBS, definitions, write_scripts
from tests.support.kills.load import Load, digest
from tests.support.receiver import receiver

SETTLE_SECONDS = 240
_NEWEST = "SELECT coalesce(max(id), 0) FROM events_event"
# A cursor is moved past what its subscription does not want only now and then.
_UNDELIVERED = """
SELECT count(*) FROM webhooks_subscription s JOIN events_event e ON e.id > s.cursor AND s.types ? e.type
"""
_UNSETTLED = """
SELECT (SELECT count(*) FROM jobs_jobrun WHERE state IN ('queued', 'running'))
+ (SELECT count(*) FROM procrastinate_jobs) + (SELECT count(*) FROM tasks_tasklease WHERE ended_at IS NULL)
"""


class Killing:
    """Does something bad to a fleet, time and again; what was killed is started again some seconds later."""

    def __init__(self, fleet: Fleet, seed: int, say: Callable[[str], None]) -> None:
        self._fleet, self._chance, self._say = fleet, random.Random(seed), say
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._busy: set[str] = set()  # nodes that something is done to
        self.count: Counter[str] = Counter()
        self._ways: list[tuple[int, Callable[[], str]]] = [
            (3, self._kill_web),
            (3, self._kill_leader),
            (1, self._kill_follower),
            (4, self._kill_runner),
            (1, self._crash_database),
            (1, self._cut_off),
            (1, self._cut_front),
            (1, self._suspend),
            (1, self._stop_in_order),
        ]

    def go_on(self, seconds: float, *, pause: tuple[float, float] = (1.0, 7.0)) -> None:
        """Kill for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            weights = [weight for weight, _ in self._ways]
            (_, way) = self._chance.choices(self._ways, weights)[0]
            what = way()
            if what:
                self.count[what.partition(":")[0]] += 1
                self._say(what)
            self._wait(min(self._chance.uniform(*pause), until - time.monotonic()))

    def wait_until_well(self) -> None:
        """Let all that was killed start, and wait for it."""
        until = time.monotonic() + START_SECONDS
        while self._later or not self._fleet.is_well():
            assert time.monotonic() < until, "not every node is well"
            self._wait(1)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(0.1, left))
            due = [each for each in self._later if each[0] <= time.monotonic()]
            self._later = [each for each in self._later if each not in due]
            for _, act in due:
                act()
            for node in self._fleet.nodes:
                if node.has_ended() and node.name not in self._busy:  # as one that finds no database at its start does
                    self.count["ended by itself"] += 1
                    self._say(f"ended by itself: {node.name}")
                    self._after(1, node.start, node)

    def _after(self, seconds: float, act: Callable[[], object], node: Node | None = None) -> None:
        def do() -> None:
            act()
            if node is not None:
                self._busy.discard(node.name)

        if node is not None:
            self._busy.add(node.name)
        self._later.append((time.monotonic() + seconds, do))

    def _any_of(self, *kinds: str) -> Node | None:
        idle = [node for kind in kinds for node in self._fleet.of(kind) if node.name not in self._busy]
        return self._chance.choice(idle) if idle else None

    def _kill(self, node: Node | None, what: str) -> str:
        if node is None or node.name in self._busy:
            return ""
        node.kill()
        self._after(self._chance.uniform(0, 4), node.start, node)
        return f"{what}: {node.name}"

    # --- ways
    def _kill_web(self) -> str:
        return self._kill(self._any_of("web"), "web killed")

    def _kill_leader(self) -> str:
        return self._kill(self._fleet.leader(), "leader killed")

    def _kill_follower(self) -> str:
        leader = self._fleet.leader()
        followers = [node for node in self._fleet.of("daemon") if leader and node is not leader]
        return self._kill(followers[0] if followers else None, "follower killed")

    def _kill_runner(self) -> str:
        return self._kill(self._any_of("runner"), "runner killed")

    def _crash_database(self) -> str:
        self._fleet.cluster.stop(signal.SIGQUIT)
        seconds = self._chance.uniform(0, 5)
        time.sleep(seconds)
        self._fleet.cluster.start()
        return f"database crashed: for {seconds:.1f} s"

    def _cut_off(self) -> str:
        node = self._any_of("web", "daemon", "runner")
        if node is None:
            return ""
        seconds = self._chance.choice([3, 10, 25, 45])
        node.proxy.cut()
        self._after(seconds, node.proxy.mend, node)
        return f"cut off from the database: {node.name} for {seconds} s"

    def _cut_front(self) -> str:
        self._fleet.front.cut()
        self._after(self._chance.uniform(1, 5), self._fleet.front.mend)
        return "webs cut off: all"

    def _suspend(self) -> str:
        node = self._any_of("web", "daemon", "runner")
        if node is None:
            return ""
        seconds = self._chance.choice([3, 10, 25, 45])
        node.signal(signal.SIGSTOP)
        self._after(seconds, lambda: node.signal(signal.SIGCONT), node)
        return f"suspended: {node.name} for {seconds} s"

    def _stop_in_order(self) -> str:
        node = self._any_of("web", "daemon", "runner")
        if node is None or node.process is None:
            return ""
        node.process.send_signal(signal.SIGTERM)

        def start_again() -> None:
            node.kill()
            node.start()

        self._after(15, start_again, node)
        return f"stopped in order: {node.name}"


def kill_for(seconds: float, folder: pathlib.Path, *, seed: int, say: Callable[[str], None] = print) -> list[Entry]:
    """Start everything, kill for so long under load, let it settle; return the account."""
    with receiver() as webhook, Fleet(folder) as fleet:
        write_scripts(fleet.scripts, fleet.marks)
        fleet.define(definitions(f"http://127.0.0.1:{webhook.port}/"))
        fleet.query(f"DELETE FROM jobs_job WHERE name NOT IN {tuple(JOBS)} RETURNING id")  # what a new one has
        fleet.start()
        load = Load(fleet.front.port, seed=seed)
        load.start()
        say(f"everything is up; kills for {seconds:.0f} s, seed {seed}")
        killing = Killing(fleet, seed, say)
        killing.go_on(seconds)
        say(f"{sum(killing.count.values())} in all: {', '.join(f'{n} {what}' for what, n in killing.count.items())}")
        began = time.monotonic()
        killing.wait_until_well()
        say(f"all are well again after {time.monotonic() - began:.0f} s")
        load.stop()
        fleet.nodes[0].installation.post("/api/jobs/minutely/disable")
        _settle(fleet, load, say)
        feed = _whole_feed(fleet)
        delivered = [json.loads(body)["id"] for body in list(webhook.bodies)]
        fleet.stop()
        return account(fleet, load, feed, delivered)


def _settle(fleet: Fleet, load: Load, say: Callable[[str], None]) -> None:
    """Wait until nothing goes on any more; what does not end is left to the account."""
    began = time.monotonic()
    with contextlib.suppress(AssertionError):
        wait_for(lambda: fleet.query(_UNSETTLED)[0][0] == 0, SETTLE_SECONDS, "runs and leases are over")
    newest = fleet.query(_NEWEST)[0][0]
    with contextlib.suppress(AssertionError):
        wait_for(lambda: load.has_read(newest), 60, "readers have all")
        wait_for(lambda: fleet.query(_UNDELIVERED)[0][0] == 0, SETTLE_SECONDS, "deliveries")
    load.stop_reading()
    say(f"settled after {time.monotonic() - began:.0f} s")


def _whole_feed(fleet: Fleet) -> dict[int, str]:
    events: dict[int, str] = {}
    cursor = 0
    while True:
        page = fleet.nodes[0].installation.get(f"/api/v1/events?after={cursor}&limit=1000").json
        events |= {event["id"]: digest(event) for event in page["events"]}
        if page["next"] == cursor:
            return events
        cursor = page["next"]
