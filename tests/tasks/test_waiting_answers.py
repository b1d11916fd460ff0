"""Calls that wait for an answer, against web as it runs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.support.installation import Installation


def ask(server: Installation, text: str) -> tuple[int, int]:
    number = server.post("/api/v1/tasks", {"name": "Work"}).json["id"]
    return number, server.post(f"/api/v1/tasks/{number}/questions", {"text": text}).json["id"]


def test_who_waits_gets_the_answer_as_it_comes(server: Installation) -> None:
    _, question = ask(server, "Which database?")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(server.get, f"/api/v1/questions/{question}?wait_seconds=30", timeout=40)
        time.sleep(0.3)  # there is nothing to see of a call that waits
        assert not waits.done()
        server.post(f"/api/v1/questions/{question}/answer", {"answer": "SQLite"})
        assert waits.result(15).json["answer"] == "SQLite"
    assert time.monotonic() - began < 20


def test_who_waits_is_told_that_the_task_ended(server: Installation) -> None:
    number, question = ask(server, "Shall I go on?")
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(server.get, f"/api/v1/questions/{question}?wait_seconds=30", timeout=40)
        time.sleep(0.3)  # as above
        server.request("DELETE", f"/api/v1/tasks/{number}")
        assert waits.result(15).json["state"] == "withdrawn"


def test_without_an_answer_it_ends_in_time(server: Installation) -> None:
    _, question = ask(server, "Anybody there?")
    began = time.monotonic()
    answer = server.get(f"/api/v1/questions/{question}?wait_seconds=1")
    assert (answer.status, answer.json["state"]) == (200, "open")
    assert 0.9 < time.monotonic() - began < 10
