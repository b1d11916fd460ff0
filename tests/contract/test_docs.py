"""What the manual shows works: each `sh` block is run and each call made, where web and daemon run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.support import commands
from tests.support.installation import ROOT, Installation, wait_for
from tests.support.jobs import NEVER
from tests.support.receiver import receiver

DOCS = ROOT / "docs"
BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# One installation, in this order. api.md and jobs.md come before, and test_make.py runs getting-started.md
# and the README on a fresh clone. What needs a cluster, GitHub or an hour is `console` and not run.
PAGES = (
    "operating.md",
    "upgrade.md",
    "database.md",
    "vault.md",
    "broker.md",
    "events.md",
    "security.md",
    "writing-scripts.md",
    "pages.md",
)
ELSEWHERE = {"api.md", "jobs.md", "getting-started.md", "postgres.md"}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("shell"))
    made.state.chmod(0o700)
    (made.state / "scripts").mkdir()
    tools = made.folder / "tools"
    tools.mkdir()
    (tools / "python3").symlink_to(sys.executable)
    made.environment |= {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "LOBWIFE_URL": f"http://127.0.0.1:{made.api_port}",
    }
    command = commands.program(tools / "manage.py", str(ROOT / "manage.py"))
    with command, receiver() as alerts:  # the doctor of operating.md wants alerts to go somewhere
        made.environment["LOBWIFE_ALERT_URLS"] = f"json://127.0.0.1:{alerts.port}/"
        try:
            made.migrate()
            made.manage("backup")  # before the daemon makes one
            made.start_web()
            made.start_daemon()
            yield made
        finally:
            made.stop()


def test_every_call_of_the_api_s_page_works(shell: Installation) -> None:
    statuses = []
    for call in _calls("api.md"):
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if call.body else {}  # what curl -d sends
        answer = shell.request(call.method, call.path, call.body, headers=headers)
        statuses.append(answer.status)
        if call.path.endswith("limit=20"):
            assert [task["name"] for task in answer.json] == ["Write the manual"]
        if call.path.endswith("/events") and call.method == "GET":
            assert [event["event_type"] for event in answer.json] == ["note", "updated", "created"]
            assert {event["actor"] for event in answer.json} == {"planner", "agent-7"}
    tasks = [200, 200, 201, 200, 200, 200, 200, 201, 200, 200]
    leases, questions = [201, 200, 200, 200, 200], [201, 201, 200, 200, 200, 200]
    assert statuses == [*tasks, *leases, *questions]


def test_every_command_and_every_call_of_the_jobs_page_works(shell: Installation) -> None:
    text = (DOCS / "jobs.md").read_text()
    [definition] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (shell.folder / "jobs.yaml").write_text(definition)
    all_words = [shlex.split(line)[1:] for line in _lines("jobs.md") if line.startswith("manage.py ")]
    assert len(all_words) == 18
    for words in all_words:
        if words[:2] == ["secrets", "set"]:
            program = [sys.executable, str(ROOT / "manage.py"), *words]
            subprocess.run(program, env=shell.environment, input="a-long-value", text=True, check=True)
            continue
        if words[0] == "abort":  # one that can be aborted, in the place of the example's number
            shell.script("slow.sh", "sleep 60\n")
            (shell.folder / "slow.yaml").write_text("jobs: {slow: {script: slow.sh, schedule: '@yearly'}}")
            shell.manage("jobs", "import", str(shell.folder / "slow.yaml"))
            shell.manage("trigger", "slow")
            [run] = json.loads(shell.manage("runs", "slow", "--json").stdout)
            words = ["abort", str(run["id"]), *words[2:]]
        elif words[0] == "logs" or words[:3] == ["trigger", "nightly-report", "--follow"]:
            wait_for(lambda: _latest(shell) not in {"queued", "running"})
        words = [str(shell.folder / word) if word.endswith(".yaml") else word for word in words]
        shell.manage(*words)
    new_run = ""
    calls = _calls("jobs.md")
    assert len(calls) == 9
    for call in calls:
        if call.path.endswith("/retry"):
            _wait_for_end(shell, new_run)
        answer = shell.request(call.method, call.path.replace("/17", f"/{new_run}"), call.body)
        # A run of hello.py can be over before its abort is asked for.
        allowed = {200, 201, 409} if call.path.endswith("/abort") else {200, 201}
        assert answer.status in allowed, (call.path, answer.body)
        if call.path.endswith("/runs") and call.method == "POST":
            new_run = str(answer.json["id"])


def test_the_defaults_that_the_jobs_page_names_are_those_of_the_settings() -> None:
    configuration = (DOCS / "configuration.md").read_text()
    assert "| `LOBWIFE_KEEP_RUNS_DAYS` | runs that ended longer ago are removed | 90 |" in configuration
    assert "Runs for 90 days and at most 1,000 of a job; of all output 200 MB" in (DOCS / "jobs.md").read_text()


def _of_database(name: str) -> Any:
    """Return a page; two of them open the file with sqlite3."""
    asks_sqlite = pytest.mark.sqlite("its shell")
    return pytest.param(name, marks=asks_sqlite if name in {"operating.md", "database.md"} else ())


@pytest.mark.parametrize("name", [_of_database(page) for page in PAGES])
def test_every_command_of_the_page_works(shell: Installation, name: str) -> None:
    blocks = [text for _, text in BLOCK.findall((DOCS / name).read_text())]
    assert blocks
    for block in blocks:
        done = subprocess.run(
            # No job of the page starts by itself while it is triggered.
            ["bash", "-euo", "pipefail", "-c", block.replace("*/15 8-18 * * mon-fri", NEVER)],
            env=shell.environment,
            cwd=shell.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def test_every_page_with_commands_is_run() -> None:
    with_commands = {page.name for page in DOCS.glob("*.md") if BLOCK.search(page.read_text())}
    assert with_commands == {*PAGES, *ELSEWHERE}


class Call(NamedTuple):
    """A call of curl."""

    method: str
    path: str
    body: bytes | None


def _lines(page: str) -> list[str]:
    """Return the lines of a page's commands; a block that is shown twice counts once."""
    blocks = dict.fromkeys(text for _, text in BLOCK.findall((DOCS / page).read_text()))
    return [line for block in blocks for line in block.splitlines()]


def _calls(page: str) -> list[Call]:
    calls = []
    for line in _lines(page):
        command, *words = shlex.split(line.replace("$LOBWIFE_URL", ""))
        if command == "curl":
            method = words[words.index("-X") + 1] if "-X" in words else "GET"
            body = words[words.index("-d") + 1].encode() if "-d" in words else None
            [path] = [word for word in words if word.startswith("/")]
            calls.append(Call(method, path, body))
    return calls


def _latest(installation: Installation) -> str:
    return str(json.loads(installation.manage("runs", "nightly-report", "--limit", "1", "--json").stdout)[0]["state"])


def _wait_for_end(installation: Installation, run: str) -> None:
    wait_for(lambda: installation.get(f"/api/v1/runs/{run}").json["state"] not in {"queued", "running"})
