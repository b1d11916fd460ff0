"""`manage.py broker`, as scripts and operators use it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.support.broker_rig import Rig
from tests.support.github import Canned
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("command"))
    made.start_web()
    yield made
    made.stop()


def test_check_explains_each_step(rig: Rig) -> None:
    number = rig.task("repo", slug="well")
    done = rig.manage("broker", "check", "well")
    assert f"task T{number} (queued)" in done.stdout
    assert "registered for repo" in done.stdout
    assert "contents: write" in done.stdout
    assert "well gets a token" in done.stdout
    assert rig.github.mints == 0


def test_check_says_whose_settings_it_judged(rig: Rig) -> None:
    number = rig.task("repo")
    assert f"Judged by the settings of this command: App 4711, state directory {rig.state}." in (
        rig.manage("broker", "check", f"T{number}").stdout
    )
    assert rig.token(f"T{number}").status == 200
    app = {name: rig.environment.pop(name) for name in list(rig.environment) if name.startswith("GH_APP_")}
    try:
        done = rig.manage("broker", "check", f"T{number}", check=False)
    finally:
        rig.environment |= app
    assert done.returncode == 1
    assert "Judged by the settings of this command: no GH_APP_ID" in done.stdout
    assert "The service itself got a token at" in done.stdout


@pytest.mark.parametrize(
    ("fields", "repos", "words"),
    [
        ({"slug": "bare"}, (), "no repositories registered"),
        ({"slug": "over", "status": "completed"}, ("repo",), "is completed"),
    ],
)
def test_check_names_the_step_that_fails(rig: Rig, fields: dict[str, str], repos: tuple[str, ...], words: str) -> None:
    number = rig.task(*repos, **fields)
    done = rig.manage("broker", "check", fields["slug"], check=False)
    assert done.returncode == 1
    assert words in done.stdout
    assert "gets no token" in done.stderr
    if not repos:
        asked = rig.manage("broker", "check", f"T{number}", check=False)
        assert f"POST /api/v1/tasks/{number}/register" in asked.stdout


def test_check_of_an_id_that_nobody_has_shows_what_the_audit_knows(rig: Rig) -> None:
    rig.token("ghost")
    done = rig.manage("broker", "check", "ghost", check=False)
    assert done.returncode == 1
    assert "token_refused refused Task ghost not registered" in done.stdout


def test_what_callers_and_github_wrote_does_nothing_to_the_terminal(rig: Rig) -> None:
    number = rig.task("repo", slug="\x1b[2Jslug")
    rig.request("DELETE", f"/api/v1/tasks/{number}")
    assert rig.token("\x1b[2Jslug").status == 403
    rig.github.fail(Canned(422, b'{"message": "\\u001b[2Jno"}'))
    assert rig.token(f"T{rig.task('repo')}").status == 503
    checked = rig.manage("broker", "check", f"T{number}", check=False).stdout
    status = rig.manage("broker", "status").stdout
    assert "\x1b" not in checked + status
    assert "[2Jslug" in checked
    assert "[2Jno" in status


@pytest.mark.parametrize("action", ["check", "token", "revoke"])
def test_an_id_that_is_no_text_is_an_error_in_words(rig: Rig, action: str) -> None:
    done = rig.manage("broker", action, os.fsdecode(b"\xff"), check=False)
    assert done.returncode == 1
    assert "is not printable text" in done.stderr


def test_token_prints_one_and_revoke_ends_it_at_once(rig: Rig) -> None:
    number = rig.task("repo")
    token = rig.manage("broker", "token", f"T{number}").stdout.strip()
    assert rig.github.token(f"token {token}") is not None
    done = rig.manage("broker", "revoke", f"T{number}")
    assert "1 tokens revoked" in done.stdout
    assert rig.github.token(f"token {token}") is None
    assert rig.token(f"T{number}").json == {"error": f"Task T{number} broker is ended, not active"}
    assert rig.audit(f"?task_id=T{number}&action=task_deregistered")[0]["identity"] == "command line"
    refused = rig.manage("broker", "token", f"T{number}", check=False)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr


def test_revoke_says_when_github_did_not(rig: Rig) -> None:
    number = rig.task("repo")
    assert rig.token(f"T{number}").status == 200
    rig.github.fail(*[Canned(500)] * 3)
    done = rig.manage("broker", "revoke", f"T{number}", check=False)
    assert done.returncode == 1
    assert "goes on trying" in done.stderr


def test_status_shows_the_app_and_no_secret(rig: Rig) -> None:
    token = rig.token(f"T{rig.task('repo')}").json["token"]
    done = rig.manage("broker", "status")
    assert "4711, installation 815" in done.stdout
    assert "4999 calls left" in done.stdout
    assert "org" in done.stdout
    assert token not in done.stdout


@pytest.mark.parametrize(
    ("environment", "status", "words"),
    [
        ({"LOBWIFE_BROKER_PERMISSIONS": '{"qa": {"contents": "everything"}}'}, 1, "'qa'"),
        ({"LOBWIFE_BROKER_PERMISSIONS": "[1]"}, 1, "JSON object"),
        ({"LOBWIFE_BROKER_PERMISSIONS": '{"lobboss": {"contents": "read"}}'}, 1, "'service:lobboss'"),
        ({"GITHUB_API_URL": "http://github.example"}, 0, "https://"),
        ({"GH_APP_ID": "1"}, 0, "no PEM key"),
    ],
)
def test_settings_that_cannot_work_are_said_at_the_start(
    tmp_path: pathlib.Path, environment: dict[str, str], status: int, words: str
) -> None:
    done = Installation(tmp_path, **environment).manage("check", check=False)
    assert done.returncode == status
    assert words in done.stdout + done.stderr


def test_no_app_at_all_is_no_finding(tmp_path: pathlib.Path) -> None:
    done = Installation(tmp_path).manage("check")
    assert "broker." not in done.stdout + done.stderr
