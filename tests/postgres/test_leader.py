"""Two daemons and a web on one PostgreSQL: one daemon leads, whatever happens to it or to the database."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from core.postgres.base import WRITER_LOCK
from tests.support.installation import Answer, Installation, wait_for
from tests.support.postgres import Cluster
from tests.support.proxy import Proxy

DATABASE = "fleet"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300, func_only=True)]
KILL_SECONDS, CUT_SECONDS, START_SECONDS = 10, 30, 150
WRITE_IN_TERM = """
import django; django.setup()
from django.db import OperationalError, transaction
from lobwife.daemon.leadership import Lead
from tasks.models import Task
with Lead({term}).bound():
    try:
        with transaction.atomic():
            Task.objects.create(name="in a transaction")
    except OperationalError as error:
        print(error)
    try:
        Task(name="on its own").save()
    except OperationalError as error:
        print(error)
"""


class Fleet:
    """A cluster, and before each daemon a proxy of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.cluster = Cluster(max_connections="60")
        self.url = self.cluster.make_database(DATABASE)
        self.web = Installation(folder / "web", LOBWIFE_DATABASE_URL=self.url)
        self.web.manage("migrate", "-v0")
        self.other_web = Installation(folder / "other", LOBWIFE_DATABASE_URL=self.url)
        self.proxies: dict[str, Proxy] = {}
        self.daemons: dict[str, Installation] = {}
        self.pids: dict[str, int] = {}
        for name in ("first", "second"):
            proxy = self.proxies[name] = Proxy(self.cluster.socket)
            url = f"postgresql://lobwife@127.0.0.1:{proxy.port}/{DATABASE}?gssencmode=disable&sslmode=disable"
            self.daemons[name] = Installation(folder / name, LOBWIFE_DATABASE_URL=url)
            self.start(name)

    def start(self, name: str) -> None:
        self.pids[name] = self.daemons[name].start(sys.executable, "manage.py", "daemon").pid
        wait_for(lambda: name in self.beating(), START_SECONDS, f"the {name} daemon beats")

    def start_webs(self) -> None:
        for web in (self.web, self.other_web):
            if not web.processes:
                web.start_web()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()

    def nodes(self) -> list[tuple[str, bool]]:
        """Name and whether it leads, of the daemons that beat a moment ago."""
        recent = "SELECT name, leads FROM jobs_node WHERE kind = 'daemon' AND beat_at > now() - interval '12 s'"
        names = {pid: name for name, pid in self.pids.items()}
        rows = [(names.get(int(node.rpartition("/")[2])), leads) for node, leads in self.query(recent)]
        return [(name, leads) for name, leads in rows if name]

    def beating(self) -> set[str]:
        return {name for name, _ in self.nodes()}

    def leader(self) -> str | None:
        leaders = [name for name, leads in self.nodes() if leads]
        assert len(leaders) < 2
        return leaders[0] if leaders else None

    def term(self) -> int:
        return int(self.query("SELECT term FROM jobs_daemon")[0][0])

    def roles(self) -> tuple[str, str]:
        """Return which daemon leads and which follows, once both are well."""
        wait_for(lambda: len(self.beating()) == 2 and self.leader(), START_SECONDS, "both are well")
        leader = self.leader()
        assert leader
        (other,) = set(self.daemons) - {leader}
        return leader, other

    def takes_over(self, name: str, term: int, seconds: float) -> None:
        wait_for(lambda: self.term() > term, seconds, f"the {name} daemon begins a term")
        wait_for(lambda: self.leader() == name, 15, f"the {name} daemon says that it leads")
        assert self.term() == term + 1

    def stepped_down(self, name: str) -> bool:
        return "does nothing else, until it leads again" in self.daemons[name].log()

    def remove(self) -> None:
        for proxy in self.proxies.values():
            proxy.close()
        for installation in (self.web, self.other_web, *self.daemons.values()):
            installation.stop()
        self.cluster.remove()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    yield made
    made.remove()


def test_a_leader_that_was_stopped_and_goes_on_commits_nothing_and_steps_down(fleet: Fleet) -> None:
    leader, other = fleet.roles()
    term = fleet.term()
    os.kill(fleet.pids[leader], signal.SIGSTOP)
    try:
        fleet.takes_over(other, term, CUT_SECONDS)
    finally:
        os.kill(fleet.pids[leader], signal.SIGCONT)
    wait_for(lambda: fleet.stepped_down(leader), 30, "the earlier leader steps down")
    refused = fleet.web.run("-c", WRITE_IN_TERM.format(term=term))
    assert refused.stdout.count("another daemon leads since: nothing of this transaction was committed") == 2
    assert fleet.query("SELECT count(*) FROM tasks") == [(0,)]
    assert fleet.web.run("-c", WRITE_IN_TERM.format(term=term + 1)).stdout == ""
    assert fleet.query("SELECT count(*) FROM tasks") == [(2,)]
    assert fleet.roles() == (other, leader)


def test_another_daemon_leads_soon_after_the_leader_is_cut_off(fleet: Fleet) -> None:
    leader, other = fleet.roles()
    term = fleet.term()
    fleet.proxies[leader].cut()
    try:
        fleet.takes_over(other, term, CUT_SECONDS)
    finally:
        fleet.proxies[leader].mend()
    assert fleet.roles() == (other, leader), "the one that was cut off is back, and follows"


def test_another_daemon_leads_soon_after_the_leader_is_killed(fleet: Fleet) -> None:
    leader, other = fleet.roles()
    term = fleet.term()
    os.kill(fleet.pids[leader], signal.SIGKILL)
    fleet.takes_over(other, term, KILL_SECONDS)
    fleet.start(leader)
    assert fleet.roles() == (other, leader)


def test_everything_goes_on_by_itself_after_a_crash_of_the_database(fleet: Fleet) -> None:
    fleet.start_webs()
    assert created(fleet).status == 201
    reader = Reader(fleet.other_web)
    fleet.cluster.stop(signal.SIGQUIT)
    refusal = created(fleet)
    assert refusal.status == 503
    assert "database can't be reached" in refusal.json["error"]
    assert fleet.web.get("/health").status == 503
    fleet.cluster.start()
    wait_for(lambda: created(fleet).status == 201, 30, "web writes again")
    fleet.roles()
    assert reader.answer().status in (200, 503), "who waited meanwhile was answered"
    reader = Reader(fleet.other_web)
    assert created(fleet).status == 201
    assert len(reader.answer().json["events"]) == 1, "of the other web"


def test_without_connections_web_says_so_until_there_are_some(fleet: Fleet) -> None:
    fleet.start_webs()
    held: list[psycopg.Connection[Any]] = []

    def refusal() -> str:
        """Take what others have, and what they open again meanwhile; then ask web."""
        take_all(held, fleet.url)
        held[0].execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lobwife'")
        take_all(held, fleet.url)
        answer = created(fleet)
        return answer.json["error"] if answer.status == 503 else ""

    try:
        # The pool's own sentence comes first where it was still trying to open one.
        wait_for(lambda: re.search("takes no more connections|connections .* are in use", refusal()), 60, "web says so")
    finally:
        for connection in held:
            connection.close()
    wait_for(lambda: created(fleet).status == 201, 30, "web writes again")
    fleet.roles()


def test_reads_go_on_while_more_writers_wait_than_there_are_connections(fleet: Fleet) -> None:
    fleet.start_webs()
    wait_for(lambda: created(fleet).status == 201, 30, "web writes")
    statuses: list[int] = []
    writers = [threading.Thread(target=lambda: statuses.append(created(fleet).status)) for _ in range(40)]
    with psycopg.connect(fleet.url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [WRITER_LOCK])
        for writer in writers:
            writer.start()
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: len(fleet.query(waiting)) >= 5, 10, "writers wait")
        assert [fleet.web.get(path).status for path in ("/health", "/api/v1/tasks", "/api/v1/runs")] == [200] * 3
        assert not statuses, "all of them wait still"
    for writer in writers:
        writer.join(30)
    assert statuses == [201] * 40


class Reader:
    """Waits for the next new task at a web."""

    def __init__(self, web: Installation) -> None:
        newest = wait_for(lambda: web.get("/api/v1/events").json.get("next"), 30, "the feed is read")
        self._answers: list[Answer] = []
        path = f"/api/v1/events?after={newest}&types=task.created&wait=30"
        self._thread = threading.Thread(target=lambda: self._answers.append(web.get(path, timeout=40)))
        self._thread.start()

    def answer(self) -> Answer:
        self._thread.join(45)
        return self._answers[0]


def take_all(held: list[psycopg.Connection[Any]], url: str) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        for _ in range(500):
            held.append(psycopg.connect(url, autocommit=True))


def created(fleet: Fleet) -> Answer:
    return fleet.web.post("/api/v1/tasks", {"name": "a task"})


def test_metrics_count_the_nodes_and_health_is_well(fleet: Fleet) -> None:
    fleet.start_webs()
    fleet.roles()
    # One that was killed a moment ago counts until its signs of life are old.
    count = re.compile(r'^lobwife_nodes\{kind="daemon"\} 2\.0$', re.MULTILINE)
    wait_for(lambda: count.search(fleet.web.get("/metrics").body.decode()), 60, "two daemons count")
    wait_for(lambda: fleet.web.get("/health").json["status"] == "ok", 30, "the leader has beaten")


def test_serve_brings_a_web_and_a_daemon_that_follows(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.roles()
    term = fleet.term()
    third = Installation(tmp_path, LOBWIFE_DATABASE_URL=fleet.url)
    third.start(sys.executable, "manage.py", "serve")
    kinds = "SELECT kind, count(*) FROM jobs_node WHERE beat_at > now() - interval '12 s' GROUP BY kind"
    try:
        wait_for(lambda: ("daemon", 3) in fleet.query(kinds), START_SECONDS, "its daemon beats")
        wait_for(third._answers, START_SECONDS, "its web answers")
        assert third.get("/health").json["daemon"]["alive"] is True
        assert fleet.term() == term
    finally:
        third.stop()
    wait_for(lambda: ("daemon", 2) in fleet.query(kinds), 30, "who ends in order is no node any more")
