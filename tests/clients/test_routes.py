"""Every route of REST has a method of the client, and what a method sends is what lobwife understands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from lobwife_client import Client, Conflict, NotFound, Refused

from access.roles import RULES
from tests.support.bad_server import BadServer, Call, Reply, bad_server
from tests.support.installation import Installation

# Pages for people and machines, and routes of the older service that another one covers.
WITHOUT_METHOD = {
    *("GET /api/docs", "GET /api/openapi.json", "GET /metrics", "POST /mcp"),
    *("GET /api/tasks", "POST /api/tasks/{}/register", "GET /api/token/audit"),
}


@pytest.fixture
def recorder() -> Iterator[BadServer]:
    def answer(call: Call) -> Reply:
        is_list = call.method == "GET" and re.search(r"/(tasks|runs|costs|events)(\?|$)", call.path)
        if "/v1/events?" in call.path or call.path.endswith("/v1/events"):
            return Reply(200, {"events": [], "next": 1})
        return Reply(200, [] if is_list else {"questions": []})

    with bad_server() as started:
        started.otherwise = answer
        yield started


def call_everything(client: Client) -> None:
    list(client.tasks())
    list(client.task_events(1))
    list(client.events(after=1, wait_seconds=0))
    for result in (
        *(client.task_counts(), client.task(1), client.create_task("x"), client.update_task(1, status="active")),
        *(client.cancel_task(1), client.add_event(1, "note"), client.note(1), client.write_note(1, "x")),
        *(client.add_link(1, "https://x"), client.set_result(1, "x")),
        *(client.heartbeat(1, 1), client.release(1, 1, "completed")),
        *(client.ask(1, "x"), client.questions(1), client.open_questions(), client.question(1)),
        *(client.answer_question(1, "x"), client.costs(), client.cost_summary(), client.report_cost(1, "x")),
        *(client.token(1), client.service_token("x"), client.register(1, ["x"]), client.deregister(1)),
        *(client.audit(), client.jobs(), client.job("x"), client.trigger_job("x"), client.enable_job("x")),
        *(client.disable_job("x"), client.next_firings("x"), client.create_run("x"), client.runs(), client.run(1)),
        *(client.run_output(1), client.abort_run(1), client.retry_run(1), client.pause_runs(), client.resume_runs()),
        *(client.health(), client.status(), client.sync(), client.trigger_sync()),
    ):
        assert result is not None


def test_every_route_has_a_method(recorder: BadServer) -> None:
    client = Client(recorder.url, "")
    recorder.answer("/api/v1/tasks/claim", Reply(204, b""))
    assert client.claim(wait_seconds=0) is None
    call_everything(client)
    called = set()
    for call in recorder.calls:
        path = call.path.partition("?")[0]
        if path != "/api/v1/tasks/claim":
            path = re.sub(r"(?<=/)(1|T1|x)(?=/|$)", "{}", path)
        called.add(f"{call.method} {path}")
    questions = {entry for entry in called if "/questions" in entry}
    assert called - questions == RULES.keys() - WITHOUT_METHOD - questions


def test_a_change_has_an_idempotency_key_where_answers_are_kept(recorder: BadServer) -> None:
    call_everything(Client(recorder.url, ""))
    for call in recorder.calls:
        keeps_nothing = re.search(r"token$|/heartbeat$", call.path)
        assert ("Idempotency-Key" in call.headers) == (call.method == "POST" and not keeps_nothing), call.path


# --- a real lobwife
@pytest.fixture(scope="module")
def client(server: Installation) -> Client:
    return Client(f"http://127.0.0.1:{server.api_port}", "", retry_seconds=20)


def make(client: Client, **fields: Any) -> int:
    return int(client.create_task("Write the manual", **fields)["id"])


def test_a_task_from_its_creation_to_its_end(client: Client) -> None:
    number = make(client, type="client-life", body="One page for each chapter.", priority="high")
    cursor = client.events(after=0, wait_seconds=0)
    newest = max(event["id"] for event in cursor)
    with client.claim(types=["client-life"], runner="box-3/1", lease_seconds=60) as lease:
        assert (lease.id, lease.task_id) == (number, f"T{number}")
        assert "One page for each chapter." in lease.task["body"]
        lease.note("the first chapter is done")
        lease.link("https://github.com/org/manual/pull/7", "pull")
        lease.link("https://github.com/org/manual/pull/7", "pull")
        lease.client.report_cost(number, "claude-sonnet-4-5", input_tokens=1200, cost_usd=0.01, source="turn-1")
        lease.client.create_task("Proofread", body="All of it")
        beat = lease.client.heartbeat(number, lease.fence, "half")
        assert (beat["stop"], beat["messages"]) == (False, [])
        lease.release("completed", "merged", summary="The manual has all chapters", data={"chapters": 7})
    task = client.task(f"T{number}")
    assert (task["status"], task["result"]["data"]) == ("completed", {"chapters": 7})
    assert [link["kind"] for link in task["links"]] == ["pull"]
    history = [event["event_type"] for event in client.task_events(number)]
    assert history.count("progress") == 1
    types = [event["type"] for event in client.events(after=newest, task=number, wait_seconds=0)]
    assert types[0] == "lease.claimed"
    assert "lease.released" in types
    assert [cost["cost_usd"] for cost in client.costs(task_id=number)] == [0.01]
    assert client.claim(types=["client-life"], wait_seconds=0) is None


def test_a_repeated_call_is_carried_out_once(client: Client) -> None:
    number = make(client, status="blocked")
    headers = {"Idempotency-Key": "the-same"}
    body = {"event_type": "note", "detail": "once"}
    for _ in range(2):
        client.transport.call("POST", f"/api/v1/tasks/{number}/events", body, headers=headers)
    assert [event["detail"] for event in client.task_events(number)].count("once") == 1


def test_a_change_is_refused_where_somebody_else_was_faster(client: Client) -> None:
    number = make(client, status="blocked")
    etag = client.task(number)["etag"]
    client.update_task(number, if_match=etag, priority="low")
    with pytest.raises(Refused) as caught:
        client.update_task(number, if_match=etag, priority="high")
    assert (caught.value.status, client.task(number)["priority"]) == (412, "low")
    note = client.note(number)
    assert client.write_note(number, "\n# New\n", if_match=note["etag"])["task_id"] == f"T{number}"


def test_filters_and_pages_of_tasks(client: Client) -> None:
    made = [make(client, type="client-pages", status="blocked") for _ in range(7)]
    assert [task["id"] for task in client.tasks(type="client-pages")] == made[::-1]
    assert [task["id"] for task in client.tasks(type="client-pages", limit=3)] == made[:3:-1]
    assert list(client.tasks(type="client-pages", status="queued")) == []


def test_what_lobwife_refuses_says_so(client: Client) -> None:
    with pytest.raises(NotFound, match="Task T99999 not found"):
        client.task(99999)
    number = make(client, status="blocked")
    client.cancel_task(number)
    with pytest.raises(Conflict, match="already cancelled"):
        client.cancel_task(number)
    with pytest.raises(Refused, match="not configured"):
        client.token(number)


def test_a_task_that_is_cancelled_stops_its_holder(client: Client) -> None:
    number = make(client, type="client-stop")
    with client.claim(types=["client-stop"], lease_seconds=3) as lease:
        client.cancel_task(number)
        assert lease.stopped.wait(15)
        assert lease.stop_reason == f"task T{number} was cancelled"
    assert client.task(number)["status"] == "cancelled"


def test_a_lease_outlives_a_restart_of_lobwife(server: Installation, client: Client) -> None:
    number = make(client, type="client-restart")
    with client.claim(types=["client-restart"], lease_seconds=60) as lease:
        server.stop()
        back = server.start_web
        note = lease.client.within(30)
        back()
        note.add_event(number, "note", "after the restart")
        assert lease.client.heartbeat(number, lease.fence)["stop"] is False
    task = client.task(number)
    assert (task["status"], task["attempt"]) == ("completed", 1)


def test_jobs_and_runs(client: Client) -> None:
    assert "task-manager" in client.jobs()
    assert client.job("task-manager")["script"] == "lobmob-task-manager.py"
    run = client.create_run("status-reporter")
    assert client.run(run["id"])["state"] == "queued"
    assert client.abort_run(run["id"])["state"] in ("aborted", "queued")
    assert client.runs(job="status-reporter")[0]["id"] == run["id"]
    assert client.health()["db"]["ok"] is True
