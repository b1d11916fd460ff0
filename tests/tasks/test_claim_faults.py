"""Agents, web and daemon that are killed: no task has two holders, none is lost, each of the dead is found."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from tests.support.access import bearer
from tests.support.disk import small_disk
from tests.support.installation import Installation, wait_for

_LONGEST_DELAY = 5.0


class Fleet:
    """Agents in threads: each claims, beats and hands back, and now and then one dies without a word."""

    def __init__(self, installation: Installation, agents: int, seed: int, lease_seconds: int) -> None:
        self.installation = installation
        self._wanted = {"lease_seconds": lease_seconds, "wait_seconds": 1}
        self.stop = threading.Event()
        self.dead: list[tuple[int, int, dict[str, str]]] = []
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._live, args=(random.Random(seed + n),)) for n in range(agents)]

    def __enter__(self) -> Fleet:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(30)

    def _live(self, chance: random.Random) -> None:
        while not self.stop.is_set():
            claimed = self._call("/api/v1/tasks/claim", self._wanted, {})
            if claimed is None or claimed.status != 200:
                self.stop.wait(0.1)
                continue
            self._work(chance, claimed.json)

    def _work(self, chance: random.Random, task: dict[str, Any]) -> None:
        number, fence, agent = task["id"], task["lease"]["fence"], bearer(task["key"])
        path = f"/api/v1/tasks/{number}"
        for _ in range(chance.randrange(3)):
            self.stop.wait(0.2)
            self._call(f"{path}/heartbeat", {"fence": fence}, agent)
        if chance.random() < 0.15:
            self.dead.append((number, fence, agent))
            return
        body = {"fence": fence, "outcome": chance.choice(["completed", "completed", "completed", "queued"])}
        answers = [self._release(path, body, agent) for _ in range(2)]  # an answer that was lost is asked for
        if all(answers) and answers[0].status == 200 and answers[1].json != answers[0].json:
            self.errors.append(f"T{number}: {answers[0].json} became {answers[1].json}")

    def _release(self, path: str, body: Any, agent: dict[str, str]) -> Any:
        """Hand the task back, again and again while nobody answers or the queue of writers is too long."""
        answer = None
        while (answer is None or answer.status == 503) and not self.stop.wait(0.1):
            answer = self._call(f"{path}/release", body, agent)
        return answer

    def _call(self, path: str, body: Any, headers: dict[str, str]) -> Any:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.installation.post(path, body, headers=headers, timeout=20)
            if answer.status == 500:
                self.errors.append(f"{path}: {answer.body!r}")
            return answer
        return None


def rows(installation: Installation, sql: str, *values: Any) -> list[Any]:
    with installation.database() as database:
        return database.execute(sql, values).fetchall()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def check_leases(installation: Installation, *, delay: float) -> None:
    """No lease of a task begins before the one before it ended, and what expired was found in time."""
    before: dict[int, Any] = {}
    for lease in rows(installation, "SELECT * FROM tasks_tasklease ORDER BY task_id, fence"):
        previous = before.get(lease["task_id"])
        if previous is not None:
            assert lease["fence"] == previous["fence"] + 1
            assert previous["ended_at"] is not None, dict(previous)
            assert moment(lease["taken_at"]) >= moment(previous["ended_at"]), (dict(previous), dict(lease))
        if lease["end"] == "expired":
            late = (moment(lease["ended_at"]) - moment(lease["expires_at"])).total_seconds()
            assert 0 <= late < delay, dict(lease)
        before[lease["task_id"]] = lease


def run(tmp_path: pathlib.Path, *, agents: int, tasks: int, kills: int, lease_seconds: int) -> None:
    installation = Installation(tmp_path, LOBWIFE_LEASE_STRIKES="default=1000", LOBWIFE_LEASE_BACKOFF_SECONDS="0")
    chance = random.Random(7)
    try:
        installation.migrate()
        web, daemon = installation.start_web(), installation.start_daemon()
        with installation.database() as database:
            database.executemany("INSERT INTO tasks (name) VALUES (?)", [(f"Task {n}",) for n in range(tasks)])
        with Fleet(installation, agents, seed=11, lease_seconds=lease_seconds) as fleet:
            for number in range(kills):
                time.sleep(chance.uniform(0.5, 2.0))  # anywhere in their work
                if number % 2:
                    os.killpg(web.pid, signal.SIGKILL)
                    web.wait(10)
                    web = installation.start_web()
                else:
                    daemon.kill()
                    daemon.wait(10)
                    daemon = installation.start_daemon()
            unfinished = "SELECT COUNT(*) FROM tasks WHERE status <> 'completed'"
            wait_for(lambda: rows(installation, unfinished)[0][0] == 0, 60 + tasks / 10, "all tasks are completed")
        assert fleet.errors == []
        assert len(rows(installation, "SELECT id FROM tasks")) == tasks
        for number, fence, agent in fleet.dead:
            body = {"fence": fence, "outcome": "failed"}
            assert installation.post(f"/api/v1/tasks/{number}/release", body, headers=agent).status == 409
            assert installation.get(f"/api/v1/tasks/{number}", headers=agent).status == 401
        assert fleet.dead or tasks < 20
        # A daemon that was killed is back within some seconds, of which the time of a start depends on the machine.
        check_leases(installation, delay=_LONGEST_DELAY + (5 if kills else 0))
    finally:
        installation.stop()


def test_agents_web_and_daemon_die_and_every_task_is_done_once(tmp_path: pathlib.Path) -> None:
    run(tmp_path, agents=8, tasks=80, kills=2, lease_seconds=2)


@pytest.mark.soak
def test_two_hundred_agents_die_on_thousands_of_tasks(tmp_path: pathlib.Path) -> None:
    # Their calls wait for each other, some seconds on two cores: a lease must outlast that.
    run(tmp_path, agents=200, tasks=3000, kills=30, lease_seconds=30)


def test_a_claim_whose_client_hangs_up_is_held_until_its_lease_ends(installation: Installation) -> None:
    installation.start_web()
    number = int(installation.post("/api/v1/tasks", {"name": "Work"}).json["id"])
    connection = http.client.HTTPConnection("127.0.0.1", installation.api_port, timeout=15)
    connection.request("POST", "/api/v1/tasks/claim", b'{"lease_seconds": 1}')
    wait_for(lambda: installation.get(f"/api/v1/tasks/{number}").json["status"] == "active")
    connection.close()  # the answer was never read
    installation.start_daemon()
    wait_for(lambda: installation.get(f"/api/v1/tasks/{number}").json["status"] == "queued")


def test_a_task_that_is_cancelled_while_it_is_claimed_ends_cancelled(installation: Installation) -> None:
    installation.start_web()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            number = int(installation.post("/api/v1/tasks", {"name": "Work"}).json["id"])
            path = f"/api/v1/tasks/{number}"
            claims = pool.submit(installation.post, "/api/v1/tasks/claim", {})
            cancels = pool.submit(installation.request, "DELETE", path)
            assert cancels.result(10).status == 200
            claimed = claims.result(10)
            assert installation.get(path).json["status"] == "cancelled"
            if claimed.status == 200:
                beat = installation.post(f"{path}/heartbeat", {"fence": 1}, headers=bearer(claimed.json["key"]))
                assert beat.json["stop"] is True
    assert rows(installation, "SELECT id FROM tasks_tasklease WHERE ended_at IS NULL") == []


def test_on_a_full_disk_a_claim_is_a_sentence_and_takes_nothing(installation: Installation) -> None:
    with small_disk(installation.state, "16m"):
        installation.migrate()
        installation.start_web()
        number = int(installation.post("/api/v1/tasks", {"name": "Work"}).json["id"])
        ballast = installation.state / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        answers = [installation.post("/api/v1/tasks/claim", {}) for _ in range(30)]
        refused = [answer for answer in answers if answer.status not in (200, 204)]
        taken = [answer for answer in answers if answer.status == 200]
        assert {answer.status for answer in refused} <= {503}
        assert all("the disk is full" in answer.json["error"] for answer in refused)
        assert len(taken) <= 1
        ballast.unlink()
        if not taken:
            assert installation.post("/api/v1/tasks/claim", {}).json["lease"]["fence"] == 1
        assert [row["fence"] for row in rows(installation, "SELECT fence FROM tasks_tasklease")] == [1]
        assert installation.get(f"/api/v1/tasks/{number}").json["status"] == "active"
        installation.stop()
