"""Leases of the client: heartbeats, signs to stop, outages, and what is handed back at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lobwife_client import Client, Conflict, Lease

from tests.support.bad_server import HTML, BadServer, Call, Reply, bad_server
from tests.support.installation import wait_for

CLAIM, BEAT, RELEASE = "/api/v1/tasks/claim", "/api/v1/tasks/7/heartbeat", "/api/v1/tasks/7/release"
QUESTIONS, QUESTION = "/api/v1/tasks/7/questions", "/api/v1/questions/3"
CLAIMED = {"id": 7, "task_id": "T7", "name": "x", "body": "do it", "key": "lw_lease", "lease": {"fence": 4}}
GOOD = Reply(200, {"expires_at": "", "stop": False, "reason": None, "messages": []})
OVER = Reply(
    409, {"error": "fence 4 of task T7 is over (taken away); somebody else holds it", "code": "lease_taken_away"}
)


def asks(**fields: Any) -> Reply:
    return Reply(200, {"id": 3, "text": "Really?", "state": "open", "answer": None, **fields})


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as started:
        started.answer(CLAIM, Reply(200, CLAIMED))
        started.answer(BEAT, GOOD)
        started.answer(RELEASE, Reply(200, {"outcome": "completed"}))
        yield started


@pytest.fixture
def claim(server: BadServer) -> Callable[[int], Lease]:
    client = Client(server.url, "lw_runner", retry_seconds=5)

    def claim(seconds: int) -> Lease:
        lease = client.claim(lease_seconds=seconds)
        lease.beat_seconds = 0.1
        return lease

    return claim


def outcomes(server: BadServer) -> list[tuple[str, str | None]]:
    return [(call.body["outcome"], call.body["reason"]) for call in server.asked(RELEASE)]


def test_a_lease_beats_with_its_own_key_and_is_completed_at_the_end(
    server: BadServer, claim: Callable[[int], Lease]
) -> None:
    with claim(60) as lease:
        assert (lease.id, lease.task["body"], lease.fence) == (7, "do it", 4)
        lease.progress = "halfway"
        wait_for(lambda: len(server.asked(BEAT)) >= 4, what="it beats")
        assert not lease.stopped.is_set()
    beats = server.asked(BEAT)
    assert {call.headers["Authorization"] for call in beats} == {"Bearer lw_lease"}
    assert beats[-1].body == {"fence": 4, "progress": "halfway"}
    assert outcomes(server) == [("completed", None)]
    assert "lw_lease" not in repr(lease) + str(lease.task)


def test_how_the_block_ends_decides_on_the_outcome(server: BadServer, claim: Callable[[int], Lease]) -> None:
    def work(ending: BaseException | None, outcome: str | None = None) -> None:
        with claim(60) as lease:
            if outcome:
                lease.release(outcome, "as I say")
            if ending:
                raise ending

    with pytest.raises(ValueError, match="no"):
        work(ValueError("no"))
    with pytest.raises(KeyboardInterrupt):
        work(KeyboardInterrupt())
    work(None, "blocked")
    with pytest.raises(ValueError, match="no"):
        work(ValueError("no"), "queued")
    assert outcomes(server) == [
        ("failed", "ValueError: no"),
        ("queued", "KeyboardInterrupt"),
        ("blocked", "as I say"),
        ("queued", "as I say"),
    ]


def test_a_holder_that_is_to_stop_learns_it_and_completes_nothing(
    server: BadServer, claim: Callable[[int], Lease]
) -> None:
    server.answer(BEAT, GOOD, Reply(200, {"expires_at": "", "stop": True, "reason": "the budget of T7 is spent"}))
    with claim(60) as lease:
        assert lease.stopped.wait(10)
        assert lease.stop_reason == "the budget of T7 is spent"
    assert outcomes(server) == [("blocked", "the budget of T7 is spent")]


@pytest.mark.parametrize(
    "bad",
    [
        Reply(503, {"error": "the database is locked"}, {"Retry-After": "0"}),
        Reply(502, HTML),
        Reply(200, HTML),
        Reply(500, {"error": "an unexpected error"}),
        Reply(hang_up=True),
    ],
)
def test_a_lease_lives_through_an_outage_that_ends_in_time(
    server: BadServer, claim: Callable[[int], Lease], bad: Reply
) -> None:
    server.answer(BEAT, bad, bad, GOOD)
    with claim(60) as lease:
        wait_for(lambda: len(server.asked(BEAT)) >= 4, what="it beats again")
        assert not lease.stopped.is_set()
    assert outcomes(server) == [("completed", None)]


@pytest.mark.parametrize("bad", [Reply(503, HTML), Reply(hang_up=True), Reply(200, b"x" * 1000, slowly=True)])
def test_nobody_works_without_a_lease(server: BadServer, claim: Callable[[int], Lease], bad: Reply) -> None:
    server.answer(BEAT, bad)
    started = time.monotonic()
    with claim(2) as lease:
        assert lease.stopped.wait(20)
        took = time.monotonic() - started
        assert "until the end of the lease" in (lease.stop_reason or "")
    assert 1 < took < 6
    assert outcomes(server) == [], "nothing of it is reported"


def test_a_lobwife_that_nobody_can_reach_stops_the_holder_at_the_end_of_the_lease() -> None:
    with bad_server() as server:
        server.answer(CLAIM, Reply(200, CLAIMED))
        lease = Client(server.url, "").claim(lease_seconds=2)
    with lease:
        assert lease.stopped.wait(20)
        assert lease.seconds_left == 0


@pytest.mark.parametrize("bad", [OVER, Reply(401, {"error": "not for this key"}), Reply(404, {"error": "no task"})])
def test_a_lease_that_is_lost_stops_the_holder_at_once_and_reports_nothing(
    server: BadServer, claim: Callable[[int], Lease], bad: Reply
) -> None:
    server.answer(BEAT, bad)
    with claim(60) as lease:
        assert lease.stopped.wait(10)
        assert bad.body["error"] in (lease.stop_reason or "")
        assert lease.stop_code == bad.body.get("code")
    assert len(server.asked(BEAT)) == 1, "what is refused is not tried again"
    assert outcomes(server) == []


def test_a_lease_that_was_lost_unnoticed_is_an_error_at_its_release(
    server: BadServer, claim: Callable[[int], Lease]
) -> None:
    server.answer(RELEASE, OVER)
    with pytest.raises(Conflict, match="somebody else holds it"), claim(60):
        pass
    with pytest.raises(ValueError, match="the work"), claim(60):
        raise ValueError("the work failed as well, which says more")


def test_a_release_is_tried_until_the_end_of_the_lease(server: BadServer, claim: Callable[[int], Lease]) -> None:
    server.answer(RELEASE, Reply(503, HTML), Reply(hang_up=True), Reply(200, {"outcome": "completed"}))
    server.answer("/api/v1/tasks/7/result", Reply(200, {"status": "stored"}))
    with claim(30) as lease:
        lease.release("completed", summary="all done", data={"chapters": 7})
        assert lease.released_as == "completed"
    assert len(server.asked(RELEASE)) == 3
    assert server.asked("/api/v1/tasks/7/result")[0].body == {"summary": "all done", "data": {"chapters": 7}}


def test_messages_come_once_though_heartbeats_repeat_them(server: BadServer, claim: Callable[[int], Lease]) -> None:
    message = {"kind": "answer", "question_id": 3, "question": "Really?", "answer": "Yes", "answered_by": "olga"}
    beat = Reply(200, {"expires_at": "", "stop": False, "reason": None, "messages": [message]})
    server.answer(BEAT, beat)
    with claim(60) as lease:
        wait_for(lambda: len(server.asked(BEAT)) >= 4, what="it beats")
        assert lease.messages == [message]


def test_an_answer_is_waited_for_through_an_outage(server: BadServer, claim: Callable[[int], Lease]) -> None:
    server.answer(QUESTIONS, Reply(201, asks().body))
    server.answer(QUESTION, asks(), Reply(502, HTML), asks(state="answered", answer="Yes"))
    with claim(60) as lease:
        assert lease.ask("Really?", ["Yes", "No"]) == "Yes"
    assert server.asked(QUESTIONS)[0].body == {"text": "Really?", "choices": ["Yes", "No"]}


def test_nobody_waits_for_an_answer_after_the_lease_or_for_longer_than_they_say(
    server: BadServer, claim: Callable[[int], Lease]
) -> None:
    server.answer(QUESTIONS, Reply(201, asks().body))
    server.answer(QUESTION, asks())
    with claim(60) as lease:
        assert lease.ask("Really?", wait_seconds=0) is None
    server.answer(BEAT, OVER)
    with claim(60) as lost:
        assert lost.ask("Really?") is None
        assert lost.stopped.is_set()


def test_what_a_holder_does_is_done_with_the_key_of_the_lease(server: BadServer, claim: Callable[[int], Lease]) -> None:
    server.otherwise = lambda call: Reply(201, {"token": "ghs_x", "expires_at": ""})
    with claim(60) as lease:
        assert lease.token() == "ghs_x"
        lease.note("tests run")
        lease.link("https://github.com/org/app/pull/7", "pull")
    done = [call for call in server.calls if call.path not in (CLAIM, BEAT)]
    assert {call.headers["Authorization"] for call in done} == {"Bearer lw_lease"}
    assert [call.body for call in done[:3]] == [
        {"task_id": "T7"},
        {"event_type": "progress", "detail": "tests run"},
        {"kind": "pull", "url": "https://github.com/org/app/pull/7"},
    ]


# --- claims
def test_a_claim_waits_until_there_is_a_task_or_as_long_as_is_said(server: BadServer) -> None:
    nothing = Reply(204, b"")
    client = Client(server.url, "")
    server.answer(CLAIM, nothing)
    assert client.claim(wait_seconds=0) is None
    assert client.claim(types=["swe"], repos=["org/app"], runner="box-3/1", wait_seconds=0) is None
    assert server.calls[-1].body == {
        **{"types": ["swe"], "repos": ["org/app"], "runner": "box-3/1"},
        **{"lease_seconds": 900, "wait_seconds": 0},
    }
    server.answer(CLAIM, nothing, Reply(503, HTML), Reply(200, CLAIMED))
    assert client.claim().id == 7
    assert server.calls[-1].body["wait_seconds"] == 60


def test_many_threads_may_share_a_client(server: BadServer) -> None:
    def answer(call: Call) -> Reply:
        return Reply(200, {"id": int(call.path.rpartition("/")[2]), "task_id": "T"})

    server.otherwise = answer
    client = Client(server.url, "")
    wrong: list[int] = []

    def look(number: int) -> None:
        if client.task(number)["id"] != number:
            wrong.append(number)

    threads = [threading.Thread(target=look, args=(number,)) for number in range(100, 120)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert wrong == []
    assert len(server.calls) == 20
