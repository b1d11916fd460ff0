"""Every route of REST has a method of the client."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from lobwife_client import Client

from access.roles import RULES
from tests.support.bad_server import BadServer, Call, Reply, bad_server

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
