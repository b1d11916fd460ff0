"""`gh` and git's credential helper, as agents run them."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.broker_rig import WRAPPERS, Rig
from tests.support.gh import Gh
from tests.support.git_server import GitServer
from tests.support.installation import free_ports
from tests.support.receiver import receiver


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("wrappers"))
    made.start_web()
    yield made
    made.stop()


@pytest.fixture
def gh(tmp_path: pathlib.Path, rig: Rig) -> Gh:
    return Gh(tmp_path, f"http://127.0.0.1:{rig.api_port}")


def test_gh_runs_the_real_one_with_the_tasks_token(gh: Gh, rig: Rig) -> None:
    number = rig.task("repo")
    done = gh.run(
        "pr", "list", "--json=a b", TASK_ID=f"T{number}", GH_TOKEN="mine", GITHUB_TOKEN="mine", SERVICE_NAME="x"
    )
    assert done.returncode == 7  # the real one's own
    assert gh.seen is not None
    token = gh.seen["GH_TOKEN"]
    made = rig.github.token(f"token {token}")
    assert made is not None
    assert made.repositories == ["repo"]
    assert "GITHUB_TOKEN" not in gh.seen
    assert json.loads(gh.record.read_text())["argv"] == ["pr", "list", "--json=a b"]
    assert token not in done.stdout + done.stderr


def test_gh_asks_for_the_services_token_without_a_task(gh: Gh, rig: Rig) -> None:
    assert gh.run("api", SERVICE_NAME="lobsigliere").returncode == 7
    assert gh.seen is not None
    made = rig.github.token(f"token {gh.seen['GH_TOKEN']}")
    assert made is not None
    assert made.repositories is None


def test_a_refusal_is_an_error_whatever_token_the_environment_holds(gh: Gh) -> None:
    for environment, words in (
        ({"TASK_ID": "nobody"}, "Task nobody not registered"),
        ({"SERVICE_NAME": "evil"}, "evil"),
    ):
        done = gh.run("pr", "list", GH_TOKEN="mine", **environment)
        assert done.returncode == 1
        assert words in done.stderr
        assert gh.seen is None


def test_whoever_says_nothing_is_the_service_lobwife(gh: Gh, rig: Rig) -> None:
    assert gh.run("api").returncode == 7
    assert gh.seen is not None
    assert rig.github.token(f"token {gh.seen['GH_TOKEN']}") is not None
    assert rig.audit("?action=service_token_issued")[0]["task_id"] == "lobwife"
    done = helper("protocol=https\nhost=github.com\n\n", rig)
    assert b"password=" in done.stdout


def test_a_token_that_one_brings_without_a_name_needs_no_broker(gh: Gh, rig: Rig) -> None:
    asked = len(rig.audit())
    assert gh.run("pr", "list", GH_TOKEN="mine").returncode == 7
    assert gh.seen is not None
    assert gh.seen["GH_TOKEN"] == "mine"
    assert len(rig.audit()) == asked


@pytest.mark.parametrize("arguments", [("--version",), ("version",), ("help", "pr"), ()])
def test_help_and_version_need_no_broker(gh: Gh, arguments: tuple[str, ...]) -> None:
    done = gh.run(*arguments, TASK_ID="nobody")
    assert (done.returncode, done.stderr) == (7, "")
    assert gh.seen is not None


def test_the_environments_token_serves_when_there_is_no_broker(gh: Gh, tmp_path: pathlib.Path) -> None:
    (nobody,) = free_ports(1)
    for url in (f"http://127.0.0.1:{nobody}", ""):
        assert gh.run("pr", TASK_ID="T1", GH_TOKEN="mine", LOBWIFE_URL=url).returncode == 7
        assert gh.seen is not None
        assert gh.seen["GH_TOKEN"] == "mine"
    with receiver() as stranger:
        stranger.raw = b"who is there?\r\n"
        done = gh.run("pr", TASK_ID="T1", LOBWIFE_URL=f"http://127.0.0.1:{stranger.port}")
        assert (done.returncode, len(stranger.paths)) == (7, 1)
        assert done.stderr.startswith("gh: the broker can't be reached: what is at LOBWIFE_URL does not answer in HTTP")
    unconfigured = Rig(tmp_path / "unconfigured", GH_APP_PEM="")
    try:
        unconfigured.start_web()
        url = f"http://127.0.0.1:{unconfigured.api_port}"
        assert gh.run("pr", TASK_ID="T1", GH_TOKEN="mine", LOBWIFE_URL=url).returncode == 7
    finally:
        unconfigured.stop()


# --- git
def helper(text: str | bytes, rig: Rig, action: str = "get", **environment: str) -> subprocess.CompletedProcess[bytes]:
    everything = {"PATH": os.environ["PATH"], "LOBWIFE_URL": f"http://127.0.0.1:{rig.api_port}", **environment}
    content = text.encode() if isinstance(text, str) else text
    command = [WRAPPERS / "git-credential-lobwife", action]
    return subprocess.run(command, input=content, env=everything, capture_output=True)


def test_the_helper_answers_user_password_and_expiry(rig: Rig) -> None:
    number = rig.task("repo")
    done = helper("protocol=https\nhost=github.com\nwwwauth[]=Basic\nwwwauth[]=x\n\n", rig, TASK_ID=f"T{number}")
    answer = dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if line)
    assert answer["username"] == "x-access-token"
    made = rig.github.token(f"token {answer['password']}")
    assert made is not None
    assert int(answer["password_expiry_utc"]) == int(made.expires)


@pytest.mark.parametrize(
    "text",
    [
        "protocol=http\nhost=github.com\n\n",
        "protocol=https\nhost=evil.example\n\n",
        "protocol=https\nhost=github.com.evil.example\n\n",
        "protocol=https\nhost=github.com:8443\n\n",
        "protocol=https\n\n",
        "",
    ],
)
def test_the_helper_says_nothing_to_other_hosts_and_protocols(rig: Rig, text: str) -> None:
    done = helper(text, rig, SERVICE_NAME="lobwife")
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize(
    "text",
    [
        b"protocol=https\nhost=github.com\0evil\n\n",
        b"protocol=https\nhost=evil.example\nhost=github.com\n\n",
        b"protocol=https\nhost=github.com\r\n\n",
        b"url=https://github.com\n\n",
        b"no equals sign\n\n",
        b"protocol=https\nhost=github.com\npath=" + b"x" * 70000 + b"\n\n",
    ],
)
def test_the_helper_refuses_hostile_input(rig: Rig, text: bytes) -> None:
    done = helper(text, rig, SERVICE_NAME="lobwife")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"not how git asks" in done.stderr


def test_the_helper_keeps_nothing_and_refusals_are_errors(rig: Rig) -> None:
    text = "protocol=https\nhost=github.com\nusername=x\npassword=secret\n\n"
    for action in ("store", "erase"):
        done = helper(text, rig, action, SERVICE_NAME="lobwife")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = helper("protocol=https\nhost=github.com\n\n", rig, TASK_ID="nobody")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"not registered" in done.stderr


def test_real_git_clones_and_pushes_with_the_tasks_token(rig: Rig, tmp_path: pathlib.Path) -> None:
    number = rig.task("repo")
    remote = tmp_path / "org" / "repo"
    remote.parent.mkdir()
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
    subprocess.run(["git", "-C", remote, "config", "http.receivepack", "true"], check=True)
    server = GitServer(tmp_path, lambda password: rig.github.token(f"token {password}") is not None)
    environment = {
        "PATH": f"{WRAPPERS}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSL_CAINFO": str(server.certificate),
        "LOBWIFE_URL": f"http://127.0.0.1:{rig.api_port}",
        "LOBWIFE_GIT_HOST": server.host,
        "TASK_ID": f"T{number}",
    }

    def git(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        configured = ["git", "-c", "credential.helper=", "-c", "credential.helper=lobwife", *arguments]
        return subprocess.run(configured, env={**environment, **more}, cwd=tmp_path, capture_output=True, text=True)

    try:
        done = git("clone", f"https://{server.host}/org/repo", "copy")
        assert done.returncode == 0, done.stderr
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        assert git("-C", "copy", *identity, "commit", "--allow-empty", "-qm", "one").returncode == 0
        done = git("-C", "copy", "push", "origin", "HEAD:main")
        assert done.returncode == 0, done.stderr
        assert set(server.users) == {"x-access-token"}
        refused = git("-C", "copy", "fetch", TASK_ID="nobody")
        assert refused.returncode != 0
        assert "not registered" in refused.stderr
    finally:
        server.stop()
