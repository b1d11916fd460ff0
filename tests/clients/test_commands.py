"""lobwife-agent, as an agent calls it within its task."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from lobwife_client import Client, Lease
from lobwife_client.cli import main

from tests.support.bad_server import HTML, Reply, bad_server
from tests.support.installation import ROOT, Installation, wait_for

Agent = Callable[..., int]


@pytest.fixture(scope="module")
def client(server: Installation) -> Client:
    return Client(f"http://127.0.0.1:{server.api_port}", "", retry_seconds=20)


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


# --- MCP over stdio
def talk(url: str, *lines: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [ROOT / "deploy/bin/lobwife-agent", "mcp"],
        input="\n".join(lines),
        env={"PATH": os.environ["PATH"], "LOBWIFE_URL": url, "LOBWIFE_API_KEY": "lw_lease"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


def message(method: str, number: int | None = None) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": method, **({} if number is None else {"id": number})})


def test_mcp_passes_each_line_on_and_prints_the_answer() -> None:
    with bad_server() as server:
        begun = {"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-06-18"}}
        tools = {"jsonrpc": "2.0", "id": 2, "result": {"tools": []}}
        wrong = {"jsonrpc": "2.0", "id": 3, "error": {"code": -32601, "message": "no such method"}}
        server.answer(
            "/mcp", *(Reply(200, begun), Reply(202, b""), Reply(502, HTML), Reply(200, tools), Reply(400, wrong))
        )
        lines = (message("initialize", 1), message("notifications/initialized"), "", message("tools/list", 2))
        assert talk(server.url, *lines, message("x", 3)) == [begun, tools, wrong]
        versions = [call.headers.get("MCP-Protocol-Version") for call in server.calls]
        assert versions == [None, *["2025-06-18"] * 4]
        assert {call.headers["Authorization"] for call in server.calls} == {"Bearer lw_lease"}


def test_mcp_says_in_the_protocol_what_went_wrong_and_goes_on() -> None:
    with bad_server() as server:
        server.answer("/mcp", Reply(401, {"error": "the lease is over"}), Reply(hang_up=True), Reply(200, {"id": 4}))
        calls = (message("tools/call", 1), message("notifications/x"), "{not json", message("tools/call", 3))
        answers = talk(server.url, *calls[:3], message("tools/call", 4))
        assert [answer.get("id") for answer in answers] == [1, None, 4]
        assert "the lease is over" in str(answers[0]["error"])
        assert "not JSON" in str(answers[1]["error"])
        assert len(server.calls) == 3, "a call of a tool that may have been carried out is not repeated"


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
