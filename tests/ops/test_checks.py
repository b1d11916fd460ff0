"""`manage.py check` says what is wrong with an installation, and what to do; it changes nothing."""

from __future__ import annotations

import base64
import pathlib
import sqlite3
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from core.database.backend import is_postgres
from ops.checks import system
from tests.support import old_service
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def pem() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


@pytest.fixture
def sound(tmp_path: pathlib.Path) -> Installation:
    """An installation that nothing is wrong with."""
    made = Installation(tmp_path)
    made.state.chmod(0o700)
    (made.vault / ".git").mkdir(parents=True)
    return made


def check(installation: Installation, *arguments: str) -> str:
    done = installation.manage("check", *arguments, check=False)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_sound_installation_has_no_findings(sound: Installation) -> None:
    sound.migrate()
    assert "no issues" in check(sound)


@pytest.mark.sqlite("a key in the state directory is enough there")
def test_an_empty_machine_passes_and_stays_empty(sound: Installation) -> None:
    sound.state.rmdir()
    (sound.vault / ".git").rmdir()
    sound.vault.rmdir()
    del sound.environment["LOBWIFE_SECRET_KEY"]
    done = sound.manage("check", "--fail-level", "WARNING")
    assert "lobwife.I003" in done.stderr
    assert "lobwife.I005" in done.stderr
    assert not sound.state.exists()
    assert not sound.vault.exists()


def test_a_deployment_behind_tls_has_no_warnings(sound: Installation) -> None:
    sound.environment["LOBWIFE_TLS"] = "1"
    sound.manage("check", "--deploy", "--fail-level", "WARNING")


@pytest.mark.sqlite("a key in the state directory is enough there")
def test_the_key_that_migrate_makes_is_good_enough_to_deploy(sound: Installation) -> None:
    del sound.environment["LOBWIFE_SECRET_KEY"]
    sound.manage("migrate", "-v0")
    sound.environment["LOBWIFE_TLS"] = "1"
    sound.manage("check", "--deploy", "--fail-level", "WARNING")


@pytest.mark.sqlite("the file")
def test_a_check_leaves_no_trace_on_the_database(sound: Installation) -> None:
    old_service.make_database(sound.state, 1)
    before = {each.name: each.read_bytes() for each in sound.state.iterdir()}
    assert "no issues" in check(sound)
    assert "no issues" in check(sound, "--database", "default")
    assert {each.name: each.read_bytes() for each in sound.state.iterdir()} == before


@pytest.mark.sqlite("the file")
def test_a_database_without_wal_is_a_warning(sound: Installation) -> None:
    database = old_service.open_raw(sound.state / "lobmob.db")
    database.execute("CREATE TABLE tasks (id INTEGER)")
    database.close()
    found = check(sound)
    assert "lobwife.W002" in found
    assert "manage.py migrate" in found


@pytest.mark.sqlite("its version")
def test_an_old_sqlite_is_an_error_that_mentions_arm64(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(system.sqlite_version())
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    (finding,) = system.sqlite_version()
    assert finding.id == "lobwife.E001"
    assert finding.is_serious()
    assert "arm64" in str(finding.hint)


def test_a_state_directory_that_cannot_be_used_is_an_error(sound: Installation, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        sound.environment["LOBWIFE_STATE_DIR"] = str(place)
        found = check(sound)
        assert "lobwife.E003" in found
        assert "LOBWIFE_STATE_DIR" in found


def test_what_is_secret_must_not_be_open_to_others(sound: Installation, pem: bytes) -> None:
    (sound.state / "secret-key").write_text("x" * 60)
    (sound.state / "secret-key").chmod(0o644)
    sound.state.chmod(0o755)
    key = sound.folder / "key.pem"
    key.write_bytes(pem)
    key.chmod(0o604)
    sound.environment |= {"GH_APP_ID": "1", "GH_APP_INSTALL_ID": "2", "GH_APP_PEM_PATH": str(key)}
    found = check(sound)
    for identifier in ("lobwife.W003", "lobwife.W004", "broker.W003"):
        assert identifier in found
    assert "GH_APP_PEM_PATH is open to every user" in found
    assert "x" * 60 not in found


def test_a_vault_that_is_no_repository_is_a_warning(sound: Installation) -> None:
    (sound.vault / ".git").rmdir()
    assert "lobwife.W005" in check(sound)
    subprocess.run(["git", "init", "-q", str(sound.vault)], check=True)
    assert "no issues" in check(sound)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GH_APP_PEM", ""),
        ("GH_APP_PEM", "%%% not base64 %%%"),
        ("GH_APP_PEM", base64.b64encode(b"not a key").decode()),
        ("GH_APP_PEM_PATH", "/nonexistent/key.pem"),
        ("GH_APP_PEM_PATH", "/etc/hostname"),
    ],
)
def test_an_app_without_a_usable_key_is_a_warning(sound: Installation, name: str, value: str) -> None:
    sound.environment |= {"GH_APP_ID": "1", "GH_APP_INSTALL_ID": "2", name: value}
    found = check(sound)
    assert "broker.W001" in found
    assert "Token broker not configured" in found
    assert "HINT" in found


def test_a_usable_key_has_no_findings(sound: Installation, pem: bytes) -> None:
    sound.environment |= {"GH_APP_ID": "1", "GH_APP_INSTALL_ID": "2", "GH_APP_PEM": base64.encodebytes(pem).decode()}
    assert "no issues" in check(sound)


def test_debug_beside_secrets_is_an_error_that_does_not_show_them(sound: Installation) -> None:
    sound.environment |= {"LOBWIFE_DEBUG": "1"}
    assert ("no issues" in check(sound)) is not is_postgres(), "its URL is a secret"
    sound.environment |= {"GH_TOKEN": "ghs_secret"}
    done = sound.manage("check", check=False)
    assert done.returncode == 1
    assert "lobwife.E008" in done.stderr
    assert "GH_TOKEN" in done.stderr
    assert "ghs_secret" not in done.stderr


@pytest.mark.parametrize("tls", [False, True])
def test_cookies_are_secure_where_tls_is(tmp_path: pathlib.Path, tls: bool) -> None:
    installation = Installation(tmp_path, LOBWIFE_TLS="1" if tls else "0")
    installation.migrate()
    try:
        installation.start_web()
        plain = installation.get("/admin/login/", port=installation.web_port)
        proxied = installation.get("/admin/login/", port=installation.web_port, headers={"X-Forwarded-Proto": "https"})
        assert (plain.status, proxied.status) == (200, 200), "never a redirect: probes read `/` over plain HTTP"
        assert ("Secure" in plain.headers["set-cookie"]) is tls
        assert ("strict-transport-security" in proxied.headers) is tls
        assert "strict-transport-security" not in plain.headers
    finally:
        installation.stop()
