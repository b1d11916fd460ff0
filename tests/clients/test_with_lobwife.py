"""The client and lobwife-agent with a real lobwife: what they send is what it understands."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from lobwife_client import Client, Conflict, Lease, NotFound, Refused
from lobwife_client.cli import main

from tests.support.installation import ROOT, Installation, wait_for

Agent = Callable[..., int]


@pytest.fixture(scope="module")
def client(server: Installation) -> Client:
    return Client(f"http://127.0.0.1:{server.api_port}", "", retry_seconds=20)


def make(client: Client, **fields: Any) -> int:
    return int(client.create_task("Write the manual", **fields)["id"])


# --- the client
@pytest.mark.postgres
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
        working = threading.Thread(target=lease.note, args=("said while lobwife was away",))
        working.start()
        server.start_web()
        working.join(20)
        assert lease.client.heartbeat(number, lease.fence)["stop"] is False
    task = client.task(number)
    assert (task["status"], task["attempt"]) == ("completed", 1)
    assert [event["event_type"] for event in client.task_events(number)].count("progress") == 1


def test_jobs_and_runs(client: Client) -> None:
    assert "task-manager" in client.jobs()
    assert client.job("task-manager")["script"] == "lobmob-task-manager.py"
    run = client.create_run("status-reporter")
    assert client.run(run["id"])["state"] == "queued"
    assert client.abort_run(run["id"])["state"] in ("aborted", "queued")
    assert client.runs(job="status-reporter")[0]["id"] == run["id"]
    assert client.health()["db"]["ok"] is True


def test_the_example_of_the_readme_works(client: Client, tmp_path: pathlib.Path) -> None:
    readme = (ROOT / "clients" / "python" / "README.md").read_text()
    example = readme.partition("```python\n")[2].partition("```")[0]
    client.create_task("Write the manual", type="swe", body="One page for each chapter.")
    variables = {"PATH": os.environ["PATH"], "LOBWIFE_URL": client.url, "PYTHONPATH": str(ROOT / "clients" / "python")}
    process = subprocess.Popen([sys.executable, "-c", example], env=variables, stdout=subprocess.PIPE)
    try:
        done = wait_for(lambda: list(client.tasks(type="swe", status="completed")), what="it is done")
        notes = [event["detail"] for event in client.task_events(done[0]["id"]) if event["event_type"] == "progress"]
        assert notes[0] == "chapter 7 is written"
    finally:
        process.kill()
        process.communicate()


# --- lobwife-agent
@pytest.fixture
def lease(client: Client, request: pytest.FixtureRequest) -> Lease:
    """A task of the test's own that is claimed."""
    kind = request.node.name[:60]
    client.create_task("Write the manual", type=kind, body="One page for each chapter.", priority="high")
    return client.claim(types=[kind], lease_seconds=300)


@pytest.fixture
def agent(lease: Lease, client: Client, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """Call lobwife-agent with the environment of the task."""
    for name, value in environment(lease, client).items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: main(arguments)


def environment(lease: Lease, client: Client) -> dict[str, str]:
    return {
        "TASK_ID": lease.task_id,
        "LOBWIFE_URL": client.url,
        "LOBWIFE_API_KEY": lease.key,
        "LOBWIFE_FENCE": str(lease.fence),
    }


def test_task_shows_what_is_to_be_done(agent: Agent, lease: Lease, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent("task") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{lease.task_id}: Write the manual\n")
    assert "priority: high\n" in shown
    assert "One page for each chapter." in shown
    assert agent("task", "--json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == lease.id


def test_notes_and_links_are_on_the_task(
    agent: Agent, lease: Lease, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe\n"))
    assert agent("note", "the tests run") == agent("note", "-", "--type", "finding") == 0
    events = {event["event_type"]: event["detail"] for event in client.task_events(lease.id)}
    assert (events["progress"], events["finding"]) == ("the tests run", "from a pipe")
    for url in (
        *("https://github.com/org/app/pull/7", "https://github.com/org/app/issues/8"),
        *("https://github.com/org/app/tree/fix", "https://github.com/org/app/commit/abc", "https://example.org/pull"),
    ):
        assert agent("link", url) == 0
    assert agent("link", "https://example.org/a", "--kind", "issue") == 0
    kinds = [link["kind"] for link in client.task(lease.id)["links"]]
    assert kinds == ["pull", "issue", "branch", "commit", "other", "issue"]


def test_ask_prints_the_answer(agent: Agent, lease: Lease, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(text: str) -> None:
        asked = wait_for(lambda: [each for each in client.questions(lease.id) if each["answer"] is None])
        client.answer_question(asked[0]["id"], text)

    for command, said, code in (
        (("ask", "Which branch?", "--choice", "main", "--choice", "next"), "next", 0),
        (("ask", "--approve", "Deploy?"), "Approve", 0),
        (("ask", "--approve", "Delete?"), "Reject", 1),
    ):
        person = threading.Thread(target=answer, args=(said,))
        person.start()
        assert agent(*command) == code
        person.join(20)
        assert capsys.readouterr().out == f"{said}\n"
    assert agent("ask", "Anybody?", "--wait", "0") == 3
    assert "not answered yet" in capsys.readouterr().err


def test_done_hands_the_task_back_with_its_result(
    agent: Agent, lease: Lease, client: Client, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "result.json").write_text('{"chapters": 7}')
    assert agent("done", "All chapters are there", "--data", f"@{tmp_path}/result.json") == 0
    task = client.task(lease.id)
    assert (task["status"], task["result"]["summary"]) == ("completed", "All chapters are there")
    assert task["result"]["data"] == {"chapters": 7}
    assert agent("done", "again") == 1, "the key of the lease is over"


def test_done_may_say_that_it_failed_also_without_a_fence(
    agent: Agent, lease: Lease, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LOBWIFE_FENCE")
    assert agent("done", "--outcome", "queued") == 1
    assert "LOBWIFE_FENCE is not set" in capsys.readouterr().err
    assert agent("done", "no compiler", "--outcome", "failed") == 0
    assert client.task(lease.id)["status"] == "failed"


@pytest.mark.parametrize("data", ["[1]", "x", "@/nowhere"])
def test_data_that_is_no_object_is_an_error_in_words(
    agent: Agent, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    assert agent("done", "x", "--data", data) == 1
    assert capsys.readouterr().err.startswith("lobwife-agent: --data")


def test_without_a_task_the_commands_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TASK_ID", raising=False)
    assert main(["note", "x"]) == 1
    assert capsys.readouterr().err == "lobwife-agent: TASK_ID is not set: this is for use within a task\n"


@pytest.mark.parametrize(
    "command", [[str(ROOT / "deploy/bin/lobwife-agent")], [sys.executable, "-m", "lobwife_client"]]
)
def test_it_is_a_program(client: Client, lease: Lease, command: list[str]) -> None:
    variables = {"PATH": os.environ["PATH"], **environment(lease, client)}
    if command[0] == sys.executable:
        variables["PYTHONPATH"] = str(ROOT / "clients" / "python")
    done = subprocess.run([*command, "task"], env=variables, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Write the manual" in done.stdout


def test_mcp_over_stdio_is_that_of_lobwife(client: Client, lease: Lease) -> None:
    calls = [
        (
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
        ),
        ("tools/list", {}),
        ("tools/call", {"name": "note_progress", "arguments": {"text": "said by MCP"}}),
        ("tools/call", {"name": "nonsense", "arguments": {}}),
    ]
    messages = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        for number, (method, parameters) in enumerate(calls)
    ]
    done = subprocess.run(
        [ROOT / "deploy" / "bin" / "lobwife-agent", "mcp"],
        input="\n".join(json.dumps(each) for each in messages),
        env={"PATH": os.environ["PATH"], **environment(lease, client)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    begun, tools, noted, refused = (json.loads(line) for line in done.stdout.splitlines())
    assert begun["result"]["serverInfo"]["name"] == "lobwife"
    assert len(tools["result"]["tools"]) == 8
    assert noted["result"]["isError"] is False, noted
    assert refused["error"]["code"] == -32602
    assert "said by MCP" in [event["detail"] for event in client.task_events(lease.id)]
