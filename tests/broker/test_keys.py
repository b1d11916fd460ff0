"""The keys that the broker is configured with: the App's, and the one that its cached tokens lie encrypted under."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.test import Client

from broker.tokens import mint, single_flight
from tests.support.broker_rig import Rig
from tests.support.github import GitHub, pem, pem_base64
from tests.support.installation import Installation


def test_cached_tokens_lie_encrypted_and_another_secret_key_makes_new_ones(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.start_web()
        number = rig.task("repo")
        first = rig.token(f"T{number}").json["token"]
        Installation.stop(rig)
        rig.environment["LOBWIFE_SECRET_KEY"] = "another-key-for-tests-that-is-long-enough-and-has-some-variety-67890"
        rig.start_web()
        second = rig.token(f"T{number}")
        assert second.status == 200
        assert second.json["token"] != first
    finally:
        rig.stop()


@pytest.fixture
def configure(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Configure the broker with the variables of a GitHub of the test's own, and others; returns that GitHub."""
    github = GitHub()
    for waits in (mint, single_flight):  # the test's transaction is on the connection that they would give back
        monkeypatch.setattr(waits, "close_old_connections", lambda: None)

    def configure(**changes: str) -> GitHub:
        for name, value in {**github.environment, **changes}.items():
            monkeypatch.setenv(name, value)
            if hasattr(settings, name):
                setattr(settings, name, value)
        return github

    yield configure
    github.stop()


def post(path: str, **body: Any) -> Any:
    return Client().post(path, body, content_type="application/json")


def task() -> str:
    number = post("/api/v1/tasks", name="A task").json()["id"]
    assert post(f"/api/v1/tasks/{number}/register", repos=["repo"]).status_code == 200
    return f"T{number}"


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["PEM", "FILE", "PATH", "SECOND", "rotated"])
def test_the_key_comes_from_each_of_its_places(tmp_path: pathlib.Path, configure: Any, form: str) -> None:
    key_file = tmp_path / "key"
    environments = {
        "PEM": {"GH_APP_PEM": pem_base64(1)},
        "FILE": {"GH_APP_PEM": "", "GH_APP_PEM_FILE": str(key_file)},
        "PATH": {"GH_APP_PEM": "", "GH_APP_PEM_PATH": str(key_file)},
        "SECOND": {"GH_APP_PEM": "", "GH_APP_PEM_2": pem_base64(1)},
        "rotated": {"GH_APP_PEM": pem_base64(2), "GH_APP_PEM_2": pem_base64(1)},
    }
    key_file.write_text(pem(1) if form == "PATH" else pem_base64(1))
    key_file.chmod(0o600)
    configure(**environments[form])
    assert Client().get("/health").json()["broker"]["enabled"] is True
    assert post("/api/token", task_id=task()).status_code == 200


@pytest.mark.django_db
def test_a_key_file_that_is_open_to_everybody_is_used_with_a_warning(
    tmp_path: pathlib.Path, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kubernetes mounts the files of a Secret so, unless it is asked for another mode."""
    key_file = tmp_path / "key"
    key_file.write_text(pem(1))
    key_file.chmod(0o644)
    configure(GH_APP_PEM="", GH_APP_PEM_PATH=str(key_file))
    assert post("/api/token", task_id=task()).status_code == 200
    call_command("check")
    assert "The file of GH_APP_PEM_PATH is open to every user" in capsys.readouterr().err


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"GH_APP_PEM": ""}, "Token broker not configured (no PEM key)"),
        ({"GH_APP_PEM": "!!"}, "GH_APP_PEM is not base64"),
        ({"GH_APP_PEM": "aGVsbG8="}, "GH_APP_PEM does not hold"),
        ({"GH_APP_PEM": "", "GH_APP_PEM_PATH": "/nowhere/key.pem"}, "can't be read"),
        ({"GH_APP_ID": ""}, "no GH_APP_ID"),
        ({"GH_APP_INSTALL_ID": ""}, "GH_APP_INSTALL_ID"),
        ({"GITHUB_API_URL": "http://github.example"}, "https"),
    ],
)
def test_without_an_app_calls_are_told_what_is_missing(configure: Any, changes: dict[str, str], words: str) -> None:
    github = configure(**changes)
    for answer in (post("/api/token", task_id=task()), post("/api/v1/service-token", service="lobboss")):
        assert answer.status_code == 503
        assert words in answer.json()["error"]
    assert post("/api/token").status_code == 400
    assert Client().get("/health").json()["broker"]["enabled"] is False
    assert github.calls == []
