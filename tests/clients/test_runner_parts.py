"""What the runner of agents is made of: names of repositories, environments, folders, output, usage."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from lobwife_client import Client, Refused, Unreachable
from lobwife_client.lease import Lease
from lobwife_client.runner import environment, folders, output, repositories
from lobwife_client.runner.execution import Execution, Options
from lobwife_client.runner.process import Process, start_supervisor
from lobwife_client.runner.state import StateFile
from lobwife_client.runner.usage import UsageFile
from lobwife_client.runner.workspace import Workspace, filled_in

from tests.support.installation import ROOT, wait_for

BASE = "https://github.com"


def workspace(folder: pathlib.Path, **task: Any) -> Workspace:
    return Workspace(folder, {"task_id": "T12", "name": "Fix it", **task}, 3, identity='the "box" 3', keep=2)


# --- repositories
def test_a_repository_lies_under_its_name_and_under_its_owner_s_where_two_have_the_same() -> None:
    names = ["org/app", "org/.github", f"{BASE}/org/docs.git", "org/app"]
    assert repositories.folders_of(names, BASE) == {"org/app": "app", "org/.github": ".github", "org/docs.git": "docs"}
    assert repositories.folders_of(["a/app", "b/app"], BASE) == {"a/app": "a/app", "b/app": "b/app"}


@pytest.mark.parametrize(
    "name",
    [
        *("--upload-pack=evil", "org/--evil", "../../etc", "org/..", "org/.git", "/etc", "", "org//app", "org/a b"),
        *("ext::sh -c evil", "file:///etc", "https://evil.example/org/app", f"{BASE}.evil.example/org/app"),
        *("git@github.com:org/app", "org/app\n", f"{BASE}/../app"),
    ],
)
def test_what_is_no_repository_below_the_base_is_not_cloned(name: str) -> None:
    with pytest.raises(repositories.BadRepository):
        repositories.folders_of([name], BASE)


def test_a_base_is_an_address_without_secrets() -> None:
    assert repositories.check_base("file:///srv/git/") == "file:///srv/git"
    for base in ("https://user:secret@git.example", "ssh://git.example", "/srv/git", "https://"):
        with pytest.raises(ValueError, match="LOBWIFE_GIT_BASE"):
            repositories.check_base(base)


# --- environments
def test_of_the_machine_s_variables_only_harmless_and_named_ones_are_passed_on() -> None:
    machine = {
        **{"PATH": "/bin", "LC_ALL": "C.UTF-8", "HOME": "/home/me", "AWS_SECRET_ACCESS_KEY": "a", "GH_TOKEN": "b"},
        **{"LOBWIFE_API_KEY": "lw_runner", "LOBWIFE_TOKEN_PATH": "/token", "ANTHROPIC_API_KEY": "c", "NO": "d"},
    }
    passed = environment.passed_on(["ANTHROPIC_API_KEY", "LOBWIFE_API_KEY", "MISSING"], machine)
    assert passed == {"PATH": "/bin", "LC_ALL": "C.UTF-8", "ANTHROPIC_API_KEY": "c"}
    assert environment.secrets_among(["ANTHROPIC_API_KEY", "NO"], machine) == ["c"]


def test_git_gets_tokens_for_the_base_s_host_by_the_credential_helper_alone() -> None:
    variables = environment.git_variables("https://git.example:8443", "/nowhere")
    assert variables["LOBWIFE_GIT_HOST"] == "git.example:8443"
    assert (
        variables["GIT_CONFIG_KEY_0"] == variables["GIT_CONFIG_KEY_1"] == "credential.https://git.example:8443.helper"
    )
    assert variables["GIT_CONFIG_VALUE_0"] == ""
    assert variables["GIT_CONFIG_VALUE_1"].startswith("!")
    assert "GIT_CONFIG_COUNT" not in environment.git_variables("file:///srv/git", "/nowhere")


# --- folders
def test_a_workspace_has_the_note_and_keeps_git_s_identity_to_itself(tmp_path: pathlib.Path) -> None:
    made = workspace(tmp_path, body="# Do it\n")
    assert made.note.read_text() == "# Do it\n"
    assert (made.home / ".gitconfig").read_text().splitlines()[1] == '\tname = "the \\"box\\" 3"'
    assert made.path.stat().st_mode & 0o077 == 0
    command = filled_in(["x", "{note}", "--in={dir}", "{task} {other} {dir"], "T{dir}", made)
    assert command == ["x", str(made.note), f"--in={made.work}", "T{dir} {other} {dir"]
    made.close()
    assert workspace(tmp_path, body=None).note.read_text() == "# Fix it\n"


def test_folders_of_ended_tasks_go_when_there_are_newer_ones_and_those_in_use_stay(tmp_path: pathlib.Path) -> None:
    used = workspace(tmp_path)
    for age in (300, 200, 100):
        ended = workspace(tmp_path)
        (ended.work / "read-only").mkdir()
        (ended.work / "read-only" / "file").touch()
        (ended.work / "link").symlink_to(used.home)
        (ended.work / "read-only").chmod(0o500)
        ended.close()
        ended_at = 1e9 - age
        os.utime(ended.path, (ended_at, ended_at))
    folders.prune(tmp_path, keep=1)
    left = sorted(path.stat().st_mtime for path in tmp_path.iterdir())
    assert len(left) == 2
    assert left[0] == 1e9 - 100
    assert used.home.exists()


# --- processes and output
def run(folder: pathlib.Path, code: str, **options: Any) -> tuple[Any, pathlib.Path]:
    file = folder / "output.log"
    values: dict[str, Any] = {"environment": {}, "directory": folder, "output_limit": 65536, "grace": 1.0, **options}
    process = Process([sys.executable, "-c", code], output=file, **values)
    ending = process.wait(20)
    assert ending is not None
    return ending, file


def test_a_flood_of_output_keeps_its_head_and_its_tail(tmp_path: pathlib.Path) -> None:
    code = (
        "print('the head')\nfor n in range(200_000): print('line', n)\nprint('\\x1b[31mthe tail\\x1b[0m', flush=True)"
    )
    ending, file = run(tmp_path, code)
    assert ending.is_success
    assert sum(path.stat().st_size for path in tmp_path.glob("output.log*") if path.suffix != ".times") <= 65536
    assert file.read_text().startswith("the head\n")
    assert output.last_line(file) == "the tail"
    assert output.last_lines(file).splitlines()[-2:] == ["line 199999", "the tail"]
    assert len(output.last_lines(file).splitlines()) == 40


def test_secrets_are_masked_in_output_and_rewritten_lines_keep_their_last_form(tmp_path: pathlib.Path) -> None:
    _, file = run(tmp_path, r"print('key is swordfish-1234\n10%\r20%\r100%')", secrets=["swordfish-1234"])
    assert output.last_lines(file) == "key is [masked]\n100%"


def test_a_command_that_can_t_be_started_is_an_error_with_the_reason(tmp_path: pathlib.Path) -> None:
    options: dict[str, Any] = {"environment": {}, "output_limit": 1024, "grace": 1.0}
    process = Process(["/nowhere/command"], directory=tmp_path, output=tmp_path / "output.log", **options)
    ending = process.wait(20)
    assert ending is not None
    assert (ending.outcome, ending.note) == ("error", "could not start: /nowhere/command: No such file or directory")


def test_what_a_runner_starts_can_t_read_its_environment() -> None:
    code = (
        "import ctypes, os, subprocess\n"
        "from lobwife_client.runner.process import hide_from_children\n"
        "if os.getuid() == 0:\n"  # root may read everything
        "    os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"
        "read = ['cat', f'/proc/{os.getpid()}/environ']\n"
        "before = subprocess.run(read, capture_output=True)\n"
        "hide_from_children()\n"
        "print(b'secret' in before.stdout, subprocess.run(read, capture_output=True).stdout)\n"
    )
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "clients" / "python"), "KEY": "secret"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=30)
    assert done.stdout == "True b''\n", done.stderr


def test_a_supervisor_that_is_killed_ends_its_command(tmp_path: pathlib.Path) -> None:
    code = (
        "import os, signal, time\nprint(os.getpid(), flush=True)\n"
        "while not os.path.getsize('output.log'): time.sleep(0.01)\n"
        "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)"
    )
    ending, file = run(tmp_path, code)
    assert ending.outcome == "error"
    assert "ended unexpectedly" in ending.note
    assert not pathlib.Path("/proc", str(int(file.read_text()))).exists()


# --- usage
class Costs:
    """Takes reports as a client does."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def report_cost(self, task: str, **fields: Any) -> None:
        if self.error is not None:
            raise self.error
        self.reports.append(fields)


def test_lines_of_usage_are_reported_once_when_they_are_complete(tmp_path: pathlib.Path) -> None:
    path, costs = tmp_path / "usage.jsonl", Costs()
    usage = UsageFile(path, "T1.1/usage")
    usage.report(costs, "T1")  # type: ignore[arg-type]
    line = {"model": "m", "input_tokens": 5, "source": "its own", "task_id": "T9"}
    path.write_text(f'{json.dumps(line)}\nnonsense\n[1]\n{{"model": "m"')
    costs.error = Unreachable("away")
    usage.report(costs, "T1")  # type: ignore[arg-type]
    costs.error = None
    usage.report(costs, "T1")  # type: ignore[arg-type]
    assert costs.reports == [{"model": "m", "input_tokens": 5, "source": "T1.1/usage/1"}]
    with path.open("a") as file:
        file.write(', "output_tokens": 7}\n{"model": "refused"}\n')
    usage.report(costs, "T1")  # type: ignore[arg-type]
    costs.error = Refused("no", 409)
    usage.report(costs, "T1")  # type: ignore[arg-type]
    assert [report["source"] for report in costs.reports] == ["T1.1/usage/1", "T1.1/usage/4", "T1.1/usage/5"]


def test_a_server_that_does_not_answer_keeps_no_command_past_its_lease(tmp_path: pathlib.Path) -> None:
    seconds, beginning = 4.0, time.monotonic()
    supervisor = start_supervisor()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        task = {"id": 1, "task_id": "T1", "name": "Fix it", "key": "lw_a", "lease": {"fence": 1}}
        script = """echo '{"model": "m"}' > "$LOBWIFE_USAGE_FILE"; sleep 60"""
        options = Options(("sh", "-c", script), "box", url, tmp_path, grace=1.0, machine={"PATH": os.environ["PATH"]})
        lease = Lease(Client(url, "lw_a", retry_seconds=0), task, seconds=seconds)
        execution = Execution(lease, options, StateFile(tmp_path / "state", {}), threading.Event(), supervisor)
        thread = threading.Thread(target=execution.run)
        thread.start()
        wait_for(lambda: supervisor.poll() is not None, seconds=30, what="the command is ended")
        took = time.monotonic() - beginning
    thread.join(30)  # what waits for an answer gets an error
    assert took < seconds


def test_a_file_of_usage_that_is_something_else_is_not_read(tmp_path: pathlib.Path) -> None:
    path, costs = tmp_path / "usage.jsonl", Costs()
    secret = tmp_path / "secret"
    secret.write_text('{"model": "secret"}\n')
    path.symlink_to(secret)
    UsageFile(path, "x").report(costs, "T1")  # type: ignore[arg-type]
    path.unlink()
    os.mkfifo(path)
    UsageFile(path, "x").report(costs, "T1")  # type: ignore[arg-type]
    assert costs.reports == []


def test_git_understands_the_variables_and_the_identity(tmp_path: pathlib.Path) -> None:
    git = shutil.which("git")
    assert git is not None
    made = workspace(tmp_path)
    variables = {"HOME": str(made.home), "PATH": os.environ["PATH"], **environment.git_variables(BASE, "/nowhere")}
    file = tmp_path / "config.log"
    command = [git, "config", "--get-all", "credential.https://github.com.helper"]
    process = Process(command, environment=variables, directory=tmp_path, output=file, output_limit=1024, grace=1.0)
    assert process.wait(20) is not None
    assert output.last_lines(file) == f"!{sys.executable} -m lobwife_client.credential"
    process = Process(
        [git, "var", "GIT_AUTHOR_IDENT"],
        environment=variables,
        directory=tmp_path,
        output=file,
        output_limit=1024,
        grace=1.0,
    )
    assert process.wait(20) is not None
    assert output.last_line(file).startswith('the "box" 3 <agents@lobwife.invalid>')
