"""`lobwife-agent run` beside a real lobwife: what a command gets, what is reported, how work is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.support.agents import AgentRunner
from tests.support.fleet import git
from tests.support.installation import Installation, wait_for

pytestmark = pytest.mark.slow
OTHER_KEY = "another-key-that-is-long-enough-for-django-and-has-some-variety-54321"
# A command that can't be ended by SIGTERM, and has a child that left its session and its parent.
STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
command = os.getpid()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    pathlib.Path(sys.argv[1]).write_text(f"{command} {os.getpid()}")
time.sleep(120)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("runner"), LOBWIFE_LEASE_BACKOFF_SECONDS="0")
    try:
        made.migrate()
        made.start_web()
        made.start_daemon()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def key(server: Installation) -> str:
    return server.manage("apikey", "create", "box-3", "--role", "runner").stdout.strip()


@pytest.fixture
def agents(tmp_path: pathlib.Path, server: Installation, key: str) -> Iterator[AgentRunner]:
    made = AgentRunner(tmp_path / "agents", server, key, SOME_SECRET="swordfish-of-the-machine")
    yield made
    made.stop()


def new_task(server: Installation, kind: str, **fields: Any) -> int:
    return int(server.post("/api/v1/tasks", {"name": "A task", "type": kind, **fields}).json["id"])


def task(server: Installation, number: int) -> dict[str, Any]:
    fields: dict[str, Any] = server.get(f"/api/v1/tasks/{number}").json
    return fields


def status(server: Installation, number: int) -> str:
    return str(task(server, number)["status"])


def history(server: Installation, number: int) -> str:
    return "\n".join(str(event["detail"]) for event in server.get(f"/api/v1/tasks/{number}/events").json)


def is_running(pid: str | int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def start_stubborn(agents: AgentRunner, kind: str, *options: str) -> tuple[Any, list[str]]:
    """Start a runner for one task; return it and the pids of the command and of its daemon."""
    command = agents.script("stubborn", STUBBORN)
    runner = agents.start("--types", kind, "--once", "--grace", "0.3", *options, "--", command, f"{agents.folder}/pids")
    return runner, agents.file("pids").split()


# --- what a command gets, and what is reported
def test_a_command_gets_its_note_and_a_key_for_its_task_and_no_other_secret(
    server: Installation, agents: AgentRunner, key: str
) -> None:
    number = new_task(server, "gets", body="Do *this*.")
    command = agents.script(
        "command",
        "import json, os, pathlib, sys\n"
        "parents = pathlib.Path(f'/proc/{os.getppid()}/environ').read_bytes().decode()\n"
        "seen = {'arguments': sys.argv[2:], 'note': open(sys.argv[2]).read(), 'cwd': os.getcwd(), 'parent': parents}\n"
        "pathlib.Path(sys.argv[1]).write_text(json.dumps({**seen, 'environment': dict(os.environ)}))\n"
        "print('all is', os.environ['LOBWIFE_API_KEY'])\n",
    )
    options = ("--types", "gets", "--name", "box-3", "--env", "ANTHROPIC_API_KEY")
    variables = {"ANTHROPIC_API_KEY": "for-the-model", "LOBWIFE_CA_FILE": "ca.pem"}
    assert agents.run(*options, "--", command, f"{agents.folder}/seen", "{note}", "{task}", "{dir}", **variables) == 0
    seen = json.loads(agents.file("seen"))
    variables = seen["environment"]
    assert seen["arguments"][1:] == [f"T{number}", seen["cwd"]]
    assert "Do *this*." in seen["note"]
    assert (variables["TASK_ID"], variables["LOBWIFE_FENCE"]) == (f"T{number}", "1")
    assert variables["LOBWIFE_API_KEY"] not in ("", key)
    assert variables["ANTHROPIC_API_KEY"] == "for-the-model"
    assert variables["LOBWIFE_CA_FILE"] == f"{agents.folder}/ca.pem"
    assert variables["HOME"].startswith(str(agents.state))
    everything = json.dumps(seen) + agents.log()
    assert key not in everything
    assert "swordfish" not in everything
    ended = task(server, number)
    assert ended["status"] == "completed"
    assert ended["result"]["summary"].endswith("all is [masked]")
    assert ended["result"]["data"]["exit_code"] == 0
    assert "Released by box-3 (key:box-3) as completed: exit 0" in history(server, number)


def test_a_command_that_fails_fails_its_task_with_the_reason(server: Installation, agents: AgentRunner) -> None:
    number = new_task(server, "fails")
    assert agents.run("--types", "fails", "--", "sh", "-c", "echo it is broken >&2; exit 3") == 0
    assert status(server, number) == "failed"
    assert "as failed: exit 3 · it is broken" in history(server, number)


def test_what_fails_again_and_again_is_queued_again_only_so_often(server: Installation, agents: AgentRunner) -> None:
    number = new_task(server, "again")
    agents.start("--types", "again", "--on-failure", "queued", "--attempts", "2", "--", "false")
    wait_for(lambda: status(server, number) == "failed", 10)
    assert task(server, number)["attempt"] == 2


def test_what_a_command_released_and_wrote_itself_stays(server: Installation, agents: AgentRunner) -> None:
    number = new_task(server, "itself")
    link, done = "lobwife-agent link https://example.com/org/app/pull/1", "lobwife-agent done 'its own words'"
    command = f"{link} && {done} --outcome blocked --reason 'needs a person'"
    command = f"{command} && sleep 3 && touch {agents.folder}/finished"  # a heartbeat says meanwhile that it is over
    assert agents.run("--types", "itself", "--lease", "6", "--", "sh", "-c", command) == 0
    ended = task(server, number)
    assert (ended["status"], ended["result"]["summary"]) == ("blocked", "its own words")
    assert ended["links"][0]["kind"] == "pull"
    assert (agents.folder / "finished").exists()


def test_usage_that_a_command_writes_is_reported_as_costs(server: Installation, agents: AgentRunner) -> None:
    number = new_task(server, "usage")
    line = json.dumps({"model": "m", "input_tokens": 5, "output_tokens": 7, "cost_usd": 0.25})
    assert agents.run("--types", "usage", "--", "sh", "-c", f"echo '{line}' >>$LOBWIFE_USAGE_FILE") == 0
    [cost] = server.get(f"/api/v1/costs?task_id=T{number}").json
    assert (cost["input_tokens"], cost["cost_usd"]) == (5, 0.25)


def test_a_runner_works_on_as_many_tasks_at_once_as_it_may_and_status_shows_them(
    server: Installation, agents: AgentRunner
) -> None:
    numbers = [new_task(server, "several", name=f"Task {n}") for n in range(3)]
    wait = f"until [ -e {agents.folder}/go ]; do sleep 0.05; done"
    runner = agents.start("--types", "several", "--max", "2", "--name", "box-9", "--", "sh", "-c", wait)
    wait_for(lambda: [status(server, n) for n in numbers] == ["active", "active", "queued"], 10)
    [seen] = wait_for(lambda: [each for each in agents.status() if len(each["tasks"]) == 2])
    assert sorted(each["task_id"] for each in seen["tasks"]) == [f"T{number}" for number in numbers[:2]]
    table = agents.command("status").stdout
    assert f"T{numbers[0]}" in table
    assert "running" in table
    assert "Task 1" in table
    (agents.folder / "go").touch()
    wait_for(lambda: all(status(server, n) == "completed" for n in numbers), 10)
    assert "waits" in wait_for(lambda: "waits" in (text := agents.command("status").stdout) and text)
    runner.terminate()
    assert runner.wait(10) == 0
    assert agents.command("status").stdout == "No runner runs.\n"


def test_a_runner_with_a_wrong_key_or_command_says_so_and_ends(agents: AgentRunner) -> None:
    assert agents.run("--", "true", LOBWIFE_API_KEY="lw_wrong") == 1
    assert "401" in agents.log()
    assert agents.run("--", "no-such-command") == 2
    assert agents.run("--env", "LOBWIFE_API_KEY", "--", "true") == 2
    assert "no-such-command: there is no such command" in agents.log()


def test_a_runner_whose_key_is_revoked_finishes_its_task_and_goes_on_asking(
    server: Installation, agents: AgentRunner
) -> None:
    number = new_task(server, "revoked")
    key = server.manage("apikey", "create", "box-4", "--role", "runner").stdout.strip()
    wait = f"touch {agents.folder}/began; until [ -e {agents.folder}/go ]; do sleep 0.05; done"
    runner = agents.start("--types", "revoked", "--", "sh", "-c", wait, LOBWIFE_API_KEY=key)
    wait_for(lambda: (agents.folder / "began").exists(), 10)
    server.manage("apikey", "revoke", "box-4")
    (agents.folder / "go").touch()
    wait_for(lambda: status(server, number) == "completed", 10)
    wait_for(lambda: "no task could be claimed" in agents.log(), 10)
    assert runner.poll() is None


# --- repositories
def test_several_repositories_of_a_local_git_are_cloned_beside_each_other(
    server: Installation, agents: AgentRunner
) -> None:
    for name in ("app", "docs"):
        remote = agents.folder / "git" / "org" / name
        remote.mkdir(parents=True)
        git("init", "-q", "-b", "main", ".", at=remote)
        (remote / f"{name}.md").touch()
        git("add", ".", at=remote)
        git("commit", "-qm", "Begin", at=remote)
    number = new_task(server, "local", repos=["org/app", "org/docs"])
    base = f"file://{agents.folder}/git"
    assert agents.run("--types", "local", "--", "sh", "-c", "pwd; ls {dir}/*", LOBWIFE_GIT_BASE=base) == 0
    lines = agents.output(number).read_text().splitlines()
    folder = lines[0]
    assert lines[1:] == [f"{folder}/app:", "app.md", "", f"{folder}/docs:", "docs.md"]


def test_a_repository_that_can_t_be_cloned_is_tried_again_and_one_that_is_none_is_not(
    server: Installation, agents: AgentRunner
) -> None:
    number = new_task(server, "clones", repos=["org/missing"])
    base = f"file://{agents.folder}"
    assert agents.run("--types", "clones", "--", "true", LOBWIFE_GIT_BASE=base) == 0
    assert status(server, number) == "queued"
    assert "as queued: org/missing could not be cloned: exit 128 · " in history(server, number)
    hostile = new_task(server, "hostile", repos=["ext::sh -c touch% /tmp/evil"])
    assert agents.run("--types", "hostile", "--", "true", LOBWIFE_GIT_BASE=base) == 0
    assert status(server, hostile) == "failed"


# --- stopping
def test_a_cancelled_task_s_command_is_ended_with_all_that_it_started(
    server: Installation, agents: AgentRunner
) -> None:
    number = new_task(server, "cancelled")
    runner, pids = start_stubborn(agents, "cancelled", "--lease", "4")
    assert all(map(is_running, pids))
    assert server.request("DELETE", f"/api/v1/tasks/{number}").status == 200
    assert runner.wait(10) == 0
    assert not any(map(is_running, pids))
    ended = task(server, number)
    assert (ended["status"], ended.get("result")) == ("cancelled", None)


def test_of_a_lease_that_is_lost_nothing_is_reported(server: Installation, agents: AgentRunner) -> None:
    number = new_task(server, "lost")
    runner, pids = start_stubborn(agents, "lost", "--lease", "4")
    changed = server.request("PATCH", f"/api/v1/tasks/{number}", {"status": "queued"})
    assert changed.status == 200
    successor = server.post("/api/v1/tasks/claim", {"types": ["lost"]}).json
    assert runner.wait(10) == 0
    assert not any(map(is_running, pids))
    ended = task(server, number)
    assert (ended["status"], ended["lease"]["fence"], ended.get("result")) == (
        "active",
        successor["lease"]["fence"],
        None,
    )


def test_a_runner_that_is_told_to_stop_hands_its_tasks_back(server: Installation, agents: AgentRunner) -> None:
    number = new_task(server, "sigterm")
    runner, pids = start_stubborn(agents, "sigterm")
    runner.terminate()
    assert runner.wait(10) == 0
    assert not any(map(is_running, pids))
    assert status(server, number) == "queued"
    assert "as queued: the runner" in history(server, number)


def test_a_runner_that_is_killed_leaves_nothing_running_and_its_task_is_queued_again(
    server: Installation, agents: AgentRunner
) -> None:
    number = new_task(server, "killed")
    runner, pids = start_stubborn(agents, "killed", "--lease", "4", "--name", "box-9")
    runner.kill()
    runner.wait(15)
    wait_for(lambda: not any(map(is_running, pids)))
    assert [each["alive"] for each in agents.status()] == [False]
    assert "was killed" in agents.command("status").stdout
    wait_for(lambda: status(server, number) == "queued", 20)
    assert agents.run("--types", "killed", "--", "true") == 0
    assert status(server, number) == "completed"
    assert agents.status() == []


# --- a server that is away
class Html(BaseHTTPRequestHandler):
    """A proxy that answers for a server that is away."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.calls += 1  # type: ignore[attr-defined]
        self.send_response(200 if self.server.calls % 2 else 502)  # type: ignore[attr-defined]
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html><h1>Maintenance</h1></html>")

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def kill(server: Installation, program: str) -> None:
    process = next(each for each in server.processes if each.poll() is None and program in each.args)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def kill_web(server: Installation) -> None:
    kill(server, "gunicorn")
    wait_for(lambda: not is_listening(server.api_port), 10)  # its workers end a moment later


@contextlib.contextmanager
def html_in_place_of(server: Installation) -> Iterator[ThreadingHTTPServer]:
    """A proxy that answers; `calls` counts its answers."""
    proxy = ThreadingHTTPServer(("127.0.0.1", server.api_port), Html)
    proxy.calls = 0  # type: ignore[attr-defined]
    Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()


@contextlib.contextmanager
def killed(server: Installation) -> Iterator[None]:
    kill_web(server)
    kill(server, "daemon")
    yield


def until_it_may_end(path: object) -> str:
    """A command that says by a file that it has begun, and ends when another one is there."""
    return f"touch {path}.began; until [ -e {path}.go ]; do sleep 0.05; done"


def test_work_goes_on_while_the_server_is_away_or_answers_html(server: Installation, agents: AgentRunner) -> None:
    number = new_task(server, "away")
    agents.start("--types", "away", "--lease", "30", "--", "sh", "-c", until_it_may_end(agents.folder / "away"))
    wait_for(lambda: (agents.folder / "away.began").exists(), 10)
    kill_web(server)
    with html_in_place_of(server) as proxy:
        (agents.folder / "away.go").touch()
        wait_for(lambda: proxy.calls >= 3, 10)  # type: ignore[attr-defined]
    server.environment["LOBWIFE_SECRET_KEY"] = OTHER_KEY
    server.start_web()
    wait_for(lambda: status(server, number) == "completed", 20, agents.log())


@pytest.mark.soak
@pytest.mark.parametrize("outage", [int(os.environ.get("OUTAGE_SECONDS", "300"))], ids=["OUTAGE_SECONDS"])
def test_work_goes_on_over_outages_of_minutes(server: Installation, agents: AgentRunner, outage: int) -> None:
    """Web and daemon are killed and come back, then with another key, then HTML is answered in their place."""
    first, folder = new_task(server, "outage"), agents.folder
    options = ("--types", "outage", "--max", "2", "--lease", str(2 * outage + 60))
    agents.start(*options, "--", "sh", "-c", f"echo $TASK_ID was here; {until_it_may_end(f'{folder}/$TASK_ID')}")
    wait_for(lambda: (folder / f"T{first}.began").exists(), 10)

    with killed(server):
        time.sleep(outage)
    server.start_web()
    server.start_daemon()
    second = new_task(server, "outage")  # for the slot that has waited meanwhile
    wait_for(lambda: (folder / f"T{second}.began").exists(), 90, agents.log())

    with killed(server):
        (folder / f"T{first}.go").touch()
        time.sleep(outage)
    server.environment["LOBWIFE_SECRET_KEY"] = OTHER_KEY
    server.start_web()
    server.start_daemon()
    wait_for(lambda: status(server, first) == "completed", 30, agents.log())

    with killed(server), html_in_place_of(server) as proxy:
        (folder / f"T{second}.go").touch()
        time.sleep(outage)
        assert proxy.calls > 3  # type: ignore[attr-defined]
    server.start_web()
    server.start_daemon()
    wait_for(lambda: status(server, second) == "completed", 30, agents.log())
    for number in (first, second):
        ended = task(server, number)
        assert ended["attempt"] == 1
        assert ended["result"]["summary"].endswith(f"T{number} was here")


def test_work_is_stopped_when_the_server_is_away_past_the_lease(server: Installation, agents: AgentRunner) -> None:
    number = new_task(server, "past")
    runner, pids = start_stubborn(agents, "past", "--lease", "4")
    kill_web(server)
    wait_for(lambda: not any(map(is_running, pids)), 8)
    server.start_web()
    assert runner.wait(15) == 0
    wait_for(lambda: status(server, number) == "queued", 10)
    assert task(server, number).get("result") is None
