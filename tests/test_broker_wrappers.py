"""`gh` and git's credential helper, as agents run them."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.broker_rig import WRAPPERS, Rig
from tests.git_server import GitServer
from tests.installation import free_ports
from tests.receiver import receiver

RECORDER = """#!{python}
import json, os, sys
json.dump({{"argv": sys.argv[1:], "environment": dict(os.environ)}}, open({path!r}, "w"))
sys.exit(7)
"""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("wrappers"))
    made.start_web()
    yield made
    made.stop()


class Gh:
    """The wrapper with a stand-in for the real gh, which writes down how it was run."""

    def __init__(self, folder: pathlib.Path, url: str) -> None:
        self.record = folder / "record.json"
        real = folder / "gh-real"
        real.write_text(RECORDER.format(python=sys.executable, path=str(self.record)))
        real.chmod(0o755)
        self.environment = {"PATH": os.environ["PATH"], "LOBWIFE_GH_REAL": str(real), "LOBWIFE_URL": url}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.record.unlink(missing_ok=True)
        everything = {**self.environment, **environment}
        return subprocess.run([WRAPPERS / "gh", *arguments], env=everything, capture_output=True, text=True)

    @property
    def seen(self) -> dict[str, str] | None:
        return json.loads(self.record.read_text())["environment"] if self.record.exists() else None


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
        ({}, "TASK_ID"),
    ):
        done = gh.run("pr", "list", GH_TOKEN="mine", **environment)
        assert done.returncode == 1
        assert words in done.stderr
        assert gh.seen is None


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


class Listener(http.server.BaseHTTPRequestHandler):
    """Writes down what it is sent, and answers as told."""

    answers: list[tuple[int, bytes, str]] = []
    seen: list[str | None] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(self.headers.get("Authorization"))
        status, body, location = self.answers.pop(0)
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # where a redirect that is followed ends
        self.seen.append(self.headers.get("Authorization"))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    Listener.answers, Listener.seen = [], []
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_wrappers_send_their_own_credential(gh: Gh, listener: str, tmp_path: pathlib.Path) -> None:
    good = b'{"token": "ghs_x", "expires_at": "2026-02-16T12:00:00Z"}'
    Listener.answers = [(200, good, "")] * 3
    (tmp_path / "projected").write_text("a.projected.token\n")
    gh.run("pr", TASK_ID="T1", LOBWIFE_URL=listener, LOBWIFE_API_KEY="lw_key")
    gh.run("pr", TASK_ID="T1", LOBWIFE_URL=listener, LOBWIFE_TOKEN_PATH=str(tmp_path / "projected"))
    gh.run("pr", TASK_ID="T1", LOBWIFE_URL=listener)
    assert Listener.seen == ["Bearer lw_key", "Bearer a.projected.token", None]


def test_an_odd_answer_of_the_broker_is_an_error_and_no_redirect_is_followed(gh: Gh, listener: str) -> None:
    odd = [
        (401, b'{"error": "who are you?"}', ""),
        (302, b"", listener + "/elsewhere"),
        (307, b"", listener + "/elsewhere"),
        (200, b'{"token": "a\\nb", "expires_at": ""}', ""),
        (200, b"<html>", ""),
        (503, b'{"error": "GitHub failed\\u001b[31m (500)"}', ""),
    ]
    for answer in odd:
        Listener.answers = [answer]
        done = gh.run("pr", TASK_ID="T1", LOBWIFE_URL=listener, LOBWIFE_API_KEY="lw_key", GH_TOKEN="mine")
        assert (done.returncode, gh.seen) == (1, None)
        assert "\x1b" not in done.stderr
    assert len(Listener.seen) == len(odd)


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://127.0.0.1:x", "http://127.0.0.1:99999", "http://a b", "http://", "ftp://a", "nothing"],
)
def test_an_address_that_is_none_is_an_error_in_words(gh: Gh, url: str) -> None:
    done = gh.run("pr", TASK_ID="T1", LOBWIFE_URL=url, GH_TOKEN="mine")
    assert (done.returncode, gh.seen) == (1, None)
    assert (
        done.stderr
        == "gh: no token from lobwife: LOBWIFE_URL must be an address that begins with http:// or https://\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 60000,
        b"HTTP/1.1 403 No\r\n\r\n" + b"[" * 60000,
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_broker_is_an_error_in_words(gh: Gh, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = gh.run("pr", TASK_ID="T1", LOBWIFE_URL=f"http://127.0.0.1:{server.getsockname()[1]}", GH_TOKEN="mine")
        thread.join()
    assert (done.returncode, gh.seen) == (1, None)
    assert "Traceback" not in done.stderr


def test_a_credential_that_is_no_text_is_an_error_in_words(gh: Gh, tmp_path: pathlib.Path) -> None:
    (tmp_path / "projected").write_bytes(b"\xff\xfe")
    done = gh.run("pr", TASK_ID="T1", LOBWIFE_TOKEN_PATH=str(tmp_path / "projected"), GH_TOKEN="mine")
    assert (done.returncode, gh.seen) == (1, None)
    assert "not one word" in done.stderr


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
