"""`manage.py serve`: what a start prepares and says, and that web and daemon live and end together."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.support.browser import make_operator
from tests.support.commands import Process
from tests.support.installation import ROOT, Installation, free_ports, wait_for
from tests.support.processes import Process as Running
from tests.support.processes import alive, tree

pytestmark = pytest.mark.slow

STUBBORN = "trap '' TERM\necho $$ > \"$HOME/script.pid\"\nwhile :; do sleep 0.2; done\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One that runs under its supervisor, shared by tests that leave it running."""
    made = Installation(tmp_path_factory.mktemp("served"))
    try:
        made.migrate()
        serve(made)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    made = Installation(tmp_path_factory.mktemp("prepared"))
    made.migrate()
    made.script("lobmob-flush-logs.sh", STUBBORN)
    make_operator(made)
    return made


@pytest.fixture
def prepared(shared: Installation) -> Iterator[Installation]:
    """One that was started before, with nothing of it running; shared by tests that stop what they start."""
    yield shared
    shared.stop()


def serve(installation: Installation) -> Process:
    """Started, and both of web and daemon at work."""
    process = installation.fork(str(ROOT / "manage.py"), "serve")
    wait_for(lambda: healthy(installation) or process.poll() is not None, 200, "web and daemon run")
    assert process.poll() is None, installation.log()
    return process


def healthy(installation: Installation) -> bool:
    try:
        answer = installation.get("/health", port=installation.web_port, timeout=5)
    except OSError:
        return False
    return answer.status == 200 and answer.json["status"] == "ok"


def refused(installation: Installation) -> str:
    """What it says on a start that can't be; one sentence, and no traceback."""
    done = installation.manage("serve", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout == ""
    return done.stderr


def sign_in(installation: Installation, username: str, password: str) -> bool:
    page = installation.get("/", port=installation.web_port)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.body.decode())
    assert token
    answer = installation.post(
        "/",
        urlencode({"username": username, "password": password, "csrfmiddlewaretoken": token[1]}).encode(),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": page.headers["set-cookie"].partition(";")[0],
        },
        port=installation.web_port,
    )
    return answer.status == 302


def with_a_running_script(installation: Installation) -> list[Running]:
    """Every process of the installation, one of them a script that does not end when asked to."""
    note = installation.home / "script.pid"
    note.unlink(missing_ok=True)
    process = serve(installation)
    assert installation.post("/api/jobs/flush-logs/trigger").status == 200
    script = int(wait_for(lambda: note.exists() and note.read_text().strip(), 15, "the script runs"))
    members = tree(process.pid)
    assert script in {each.pid for each in members}
    assert any(each.command.startswith("lobwife-daemon") for each in members)
    return members


# --- What a start prepares and says
@pytest.mark.postgres
def test_the_first_start_makes_an_operator_and_says_where_everything_is(fresh: Installation) -> None:
    del fresh.environment["LOBWIFE_SECRET_KEY"]
    process = serve(fresh)
    screen = fresh.log()
    for told in (
        f"http://127.0.0.1:{fresh.web_port}/",
        f"http://127.0.0.1:{fresh.api_port}/",
        str(fresh.state),
        str(fresh.vault),
        f"LOBWIFE_WEB_PORT={fresh.web_port} LOBWIFE_API_PORT={fresh.api_port}",
        "Ctrl-C",
    ):
        assert told in screen
    password = re.search(r"password +(\S+)", screen)
    assert password
    assert sign_in(fresh, "admin", password[1])
    assert not sign_in(fresh, "admin", "another password")
    assert fresh.get("/static/admin/css/base.css", port=fresh.web_port).status == 200
    secret = fresh.state / "secret-key"
    assert secret.stat().st_mode & 0o777 == 0o600
    for file in fresh.state.rglob("*"):
        assert not file.is_file() or password[1].encode() not in file.read_bytes()
    key = secret.read_text()
    members = tree(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    assert process.wait(30) == 0
    wait_for(lambda: not alive(members), what="nothing is left")

    (fresh.folder / "processes.log").unlink()
    serve(fresh)
    assert "password" not in fresh.log()
    assert secret.read_text() == key
    assert sign_in(fresh, "admin", password[1])


def test_the_first_operator_can_be_told_by_the_environment_and_what_is_said_reaches_a_socket(
    fresh: Installation,
) -> None:
    """Started from another folder."""
    fresh.migrate()
    fresh.environment |= {
        "DJANGO_SUPERUSER_USERNAME": "otto",
        "DJANGO_SUPERUSER_PASSWORD": "a password told by Otto",
        "DJANGO_SUPERUSER_EMAIL": "otto@example.com",
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "serve"],
            env=fresh.environment,
            cwd=fresh.home,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        fresh.processes.append(process)
        theirs.close()
        ours.settimeout(60)
        heard = b""
        while b"web answers on" not in heard:
            piece = ours.recv(4096)
            assert piece, heard
            heard += piece
        assert sign_in(fresh, "otto", "a password told by Otto")
        assert b"told by Otto" not in pathlib.Path(f"/proc/{process.pid}/environ").read_bytes()
        process.terminate()
        while piece := ours.recv(4096):
            heard += piece
    assert b"otto" in heard
    assert b"a password told by Otto" not in heard
    assert b"SIGTERM" in heard
    with fresh.database() as database:
        assert database.execute("SELECT username, email FROM auth_user").fetchall()[0][:] == (
            "otto",
            "otto@example.com",
        )


# --- What a start refuses
@pytest.mark.parametrize("variable", ["LOBWIFE_WEB_PORT", "LOBWIFE_API_PORT"])
def test_a_port_in_use_is_named_with_the_variable_to_set(fresh: Installation, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        fresh.environment[variable] = str(port)
        sentence = refused(fresh)
    assert str(port) in sentence
    assert variable in sentence
    assert not list(fresh.state.glob("lobmob.db*"))


def test_the_same_port_twice_is_refused(fresh: Installation) -> None:
    fresh.environment["LOBWIFE_API_PORT"] = fresh.environment["LOBWIFE_WEB_PORT"]
    assert "LOBWIFE_API_PORT" in refused(fresh)


def test_an_address_that_is_not_ours_is_refused(fresh: Installation) -> None:
    fresh.environment["LOBWIFE_BIND"] = "192.0.2.1"
    assert "LOBWIFE_BIND" in refused(fresh)


def test_a_state_directory_that_cannot_be_written_is_refused(fresh: Installation) -> None:
    obstacle = fresh.folder / "a-file"
    obstacle.touch()
    fresh.environment["LOBWIFE_STATE_DIR"] = str(obstacle / "state")
    sentence = refused(fresh)
    assert str(obstacle / "state") in sentence
    assert "LOBWIFE_STATE_DIR" in sentence


def test_a_folder_for_static_files_that_cannot_be_written_is_refused(fresh: Installation) -> None:
    obstacle = fresh.folder / "a-file"
    obstacle.touch()
    fresh.migrate()
    fresh.environment["LOBWIFE_STATIC_ROOT"] = str(obstacle / "static")
    assert "LOBWIFE_STATIC_ROOT" in refused(fresh)


def test_a_variable_that_makes_no_sense_is_a_sentence(fresh: Installation) -> None:
    fresh.environment["LOBWIFE_WEB_PORT"] = "eighty"
    assert "LOBWIFE_WEB_PORT is 'eighty'" in refused(fresh)


def test_a_second_one_on_the_same_state_directory_is_refused(served: Installation) -> None:
    kept = dict(served.environment)
    web, api = free_ports(2)
    served.environment |= {"LOBWIFE_WEB_PORT": str(web), "LOBWIFE_API_PORT": str(api)}
    sentence = refused(served)
    served.environment = kept
    assert f"process {served.processes[0].pid}" in sentence
    assert healthy(served)


# --- Living and ending together
def test_a_killed_daemon_is_back_while_web_goes_on_answering(served: Installation) -> None:
    def daemon() -> int | None:
        members = tree(served.processes[0].pid)
        return next((each.pid for each in members if each.command.startswith("lobwife-daemon")), None)

    first = wait_for(daemon, what="the daemon's process")
    os.kill(first, signal.SIGKILL)

    def back() -> bool:
        assert served.get("/health", port=served.web_port).status == 200
        return daemon() not in {None, first}

    wait_for(back, 40, "another daemon")


def test_nothing_outlives_a_killed_supervisor_and_another_runs_beside_one(
    served: Installation, prepared: Installation
) -> None:
    """Those that follow start it again."""
    members = with_a_running_script(prepared)
    assert prepared.post("/api/v1/tasks", {"name": "of the second"}).status == 201
    assert served.get("/api/v1/tasks").json != prepared.get("/api/tasks").json
    prepared.processes[0].kill()
    wait_for(lambda: not alive(members), 30, "nothing is left")
    assert healthy(served)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopping_it_leaves_nothing_behind(prepared: Installation, number: signal.Signals) -> None:
    members = with_a_running_script(prepared)
    supervisor = prepared.processes[0]
    if number != signal.SIGTERM:
        os.killpg(supervisor.pid, number)  # as the end of the terminal does
    else:
        supervisor.send_signal(number)
    assert supervisor.wait(30) == 0
    # What relays the output ends with its last writer, so a moment later.
    wait_for(lambda: not alive(members), what="nothing is left")
    with prepared.database() as database:
        assert database.execute("SELECT count(*) FROM jobs_jobrun WHERE state = 'running'").fetchone()[0] == 0
