"""The keys that the broker is configured with: the App's, and the one that its cached tokens lie encrypted under."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.broker_rig import Rig
from tests.support.github import pem, pem_base64
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


@pytest.mark.parametrize("form", ["PEM", "FILE", "PATH", "SECOND", "rotated"])
def test_the_key_comes_from_each_of_its_places(tmp_path: pathlib.Path, form: str) -> None:
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
    rig = Rig(tmp_path, **environments[form])
    try:
        rig.start_web()
        assert rig.get("/health").json["broker"]["enabled"] is True
        assert rig.token(f"T{rig.task('repo')}").status == 200
    finally:
        rig.stop()


def test_a_key_file_that_is_open_to_everybody_is_used_with_a_warning(tmp_path: pathlib.Path) -> None:
    """Kubernetes mounts the files of a Secret so, unless it is asked for another mode."""
    key_file = tmp_path / "key"
    key_file.write_text(pem(1))
    key_file.chmod(0o644)
    rig = Rig(tmp_path, GH_APP_PEM="", GH_APP_PEM_PATH=str(key_file))
    try:
        rig.start_web()
        assert rig.token(f"T{rig.task('repo')}").status == 200
        assert "The file of GH_APP_PEM_PATH is open to every user" in rig.manage("check").stderr
    finally:
        rig.stop()


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
def test_without_an_app_calls_are_told_what_is_missing(
    tmp_path: pathlib.Path, changes: dict[str, str], words: str
) -> None:
    rig = Rig(tmp_path, **changes)
    try:
        rig.start_web()
        number = rig.task("repo")
        for path, body in (
            ("/api/token", {"task_id": f"T{number}"}),
            ("/api/v1/service-token", {"service": "lobboss"}),
        ):
            answer = rig.post(path, body)
            assert answer.status == 503
            assert words in answer.json["error"]
        assert rig.post("/api/token", {}).status == 400
        assert rig.get("/health").json["broker"]["enabled"] is False
        assert rig.github.calls == []
    finally:
        rig.stop()
