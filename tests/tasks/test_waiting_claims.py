"""Claims that wait, against web and daemon as they run."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from core.timestamps import iso_text, utc_now
from tests.support.installation import Answer, Installation, wait_for

LIMIT = 30


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {"LOBWIFE_WAITING_CLAIMS_PER_CALLER": str(LIMIT)}


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(100) as executor:
        yield executor


def claim(server: Installation, **body: Any) -> Answer:
    return server.post("/api/v1/tasks/claim", body, timeout=70)


def make(server: Installation, **fields: Any) -> int:
    return int(server.post("/api/v1/tasks", {"name": "Work", **fields}).json["id"])


def is_active(server: Installation, number: int) -> bool:
    return bool(server.get(f"/api/v1/tasks/{number}").json["status"] == "active")


def waiting(pool: ThreadPoolExecutor, server: Installation, count: int, **body: Any) -> list[Future[Answer]]:
    """Claims that wait by now: web has read the requests, which a call after them shows."""
    data = json.dumps({"wait_seconds": 30, **body}).encode()
    futures = []
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=70)
        connection.request("POST", "/api/v1/tasks/claim", data)
        futures.append(pool.submit(_answer, connection))
    server.get("/health")  # web has one worker, which accepts connections in their order
    time.sleep(0.3)  # there is nothing to see of a claim that waits
    return futures


def _answer(connection: http.client.HTTPConnection) -> Answer:
    with contextlib.closing(connection):
        return Answer.read_from(connection)


def test_a_waiting_claim_gets_the_task_that_comes(server: Installation, pool: ThreadPoolExecutor) -> None:
    [waits] = waiting(pool, server, 1, types=["comes"])
    number = make(server, type="comes")
    answer = waits.result(15)
    assert (answer.status, answer.json["id"]) == (200, number)


def test_without_a_task_it_ends_in_a_204_in_time(server: Installation) -> None:
    began = time.monotonic()
    assert claim(server, types=["never"], wait_seconds=1).status == 204
    assert 0.9 < time.monotonic() - began < 10


def test_each_task_wakes_as_many_as_it_takes(server: Installation, pool: ThreadPoolExecutor) -> None:
    futures = waiting(pool, server, 20, types=["many"], wait_seconds=8)
    numbers = {make(server, type="many") for _ in range(15)}
    answers = [future.result(12) for future in futures]
    assert {answer.json["id"] for answer in answers if answer.status == 200} == numbers
    assert sorted(answer.status for answer in answers) == [200] * 15 + [204] * 5


def test_a_task_becomes_ready_by_time_alone(server: Installation, pool: ThreadPoolExecutor) -> None:
    number = make(server, type="later", not_before=iso_text(utc_now() + timedelta(hours=1)))
    assert claim(server, types=["later"]).status == 204
    soon = iso_text(utc_now() + timedelta(seconds=2))
    assert server.request("PATCH", f"/api/v1/tasks/{number}", {"not_before": soon}).status == 200
    assert claim(server, types=["later"], wait_seconds=30).json["id"] == number


def test_a_client_that_hangs_up_takes_no_task_and_is_in_nobody_s_way(
    server: Installation, pool: ThreadPoolExecutor
) -> None:
    body = json.dumps({"types": ["gone"], "wait_seconds": 60}).encode()
    with socket.create_connection(("127.0.0.1", server.api_port)) as client:
        head = f"POST /api/v1/tasks/claim HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        time.sleep(0.3)  # as above
    [waits] = waiting(pool, server, 1, types=["gone"])
    number = make(server, type="gone")
    assert waits.result(15).json["id"] == number


def test_so_many_of_one_caller_wait_and_no_more(server: Installation, pool: ThreadPoolExecutor) -> None:
    futures = waiting(pool, server, LIMIT + 5, types=["full"], wait_seconds=5)
    answers = [future.result(15) for future in futures]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) == 5
    assert {answer.status for answer in answers} == {204, 429}
    assert refused[0].headers["retry-after"] == "5"
    assert "too many claims" in refused[0].json["error"]


def test_reads_go_on_while_many_wait(server: Installation, pool: ThreadPoolExecutor) -> None:
    futures = waiting(pool, server, LIMIT // 2, types=["quiet"])
    for _ in range(50):  # more than there are connections to the database
        assert server.get("/api/v1/tasks/counts").status == 200
    assert not any(future.done() for future in futures), "they still wait"
    for _ in futures:
        make(server, type="quiet")
    assert {future.result(30).status for future in futures} == {200}


def test_web_stops_without_waiting_for_them(fresh: Installation, pool: ThreadPoolExecutor) -> None:
    fresh.migrate()
    web = fresh.start_web()
    futures = waiting(pool, fresh, 3)
    os.kill(web.pid, signal.SIGTERM)
    assert {future.result(15).status for future in futures} == {204}
    wait_for(lambda: web.poll() is not None)
