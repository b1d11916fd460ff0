"""The remote over HTTP: the token reaches it and nothing else, and its troubles are sentences."""

from __future__ import annotations

import os
import pathlib
import shlex
import stat
from collections.abc import Callable, Iterator

import pytest

from core.errors import Unavailable
from core.git import command as vault_git
from tests.support.git_http import GitServer, git_server
from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.git.remote import url_of, without_credentials
from vaultsync.models import VaultState
from vaultsync.vault import Vault

pytestmark = [pytest.mark.django_db, pytest.mark.git]
TOKEN = "ghs_averysecrettokenthatnobodymaysee"  # noqa: S105


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[GitServer]:
    with git_server(tmp_path, TOKEN) as made:
        yield made


@pytest.fixture
def world(tmp_path: pathlib.Path, server: GitServer) -> World:
    made = World(tmp_path)
    git(made.remote, "config", "http.receivepack", "true")
    with_token(made, server.url, lambda: TOKEN)
    return made


def with_token(world: World, url: str, token: Callable[[], str | None]) -> None:
    world.vault = Vault(world.path, url, world.folder / "state", token)


def everything_written(folder: pathlib.Path) -> bytes:
    files = [path for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
    return b"".join(path.read_bytes() for path in files)


def test_the_token_reaches_the_remote_and_is_written_nowhere(
    world: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.environ["PATH"]
    spy = tmp_path / "bin" / "git"
    spy.parent.mkdir()
    log = tmp_path / "arguments.log"
    program = next(pathlib.Path(part, "git") for part in real.split(":") if pathlib.Path(part, "git").exists())
    spy.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(log))}\nexec {program} "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{real}")
    made = task()
    world.synced()
    change(made, priority="high")
    world.synced()
    assert git(world.remote, "show", f"main:{note_of(made)}")
    assert "push" in log.read_text()
    assert TOKEN.encode() not in everything_written(tmp_path)


def test_a_refused_token_is_a_sentence_without_the_token(world: World, server: GitServer) -> None:
    made = task()
    world.synced()
    for wrong in (lambda: "ghs_wrongtoken", lambda: None):
        with_token(world, server.url, wrong)
        change(made, name=f"Name {wrong()}")
        result = world.sync()
        assert "refuses our credentials" in result.remote_error
        assert "ghs_wrong" not in result.remote_error
        assert VaultState.objects.get().remote_state == "denied"
    assert server.refused
    with_token(world, server.url, lambda: TOKEN)
    world.synced()


def test_a_broker_that_gives_no_token_is_said_so(world: World, server: GitServer) -> None:
    made = task()
    world.synced()

    def broken() -> str | None:
        raise Unavailable("Token broker not configured (no PEM key)")

    with_token(world, server.url, broken)
    change(made, priority="high")
    assert "Token broker not configured" in world.sync().remote_error
    assert "priority: high" in world.text(note_of(made))


def test_a_slow_remote_is_given_up_and_commits_stay_here(
    world: World, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = task()
    world.synced()
    with monkeypatch.context() as patched:
        patched.setattr(vault_git.Git.network, "__kwdefaults__", {"timeout": 0.5})
        server.hang.set()
        change(made, priority="high")
        result = world.sync(fetch=False)
    assert "longer than" in result.remote_error
    assert VaultState.objects.get().ahead == 1
    server.hang.clear()
    server.released.set()
    world.synced()


@pytest.mark.parametrize(
    ("url", "token", "scoped"),
    [
        ("https://github.com/org/vault.git", "t", "http.https://github.com/.extraHeader"),
        ("https://git.example.org:8443/org/vault.git", "t", "http.https://git.example.org:8443/.extraHeader"),
        ("http://github.com/org/vault.git", "t", None),
        ("git@github.com:org/vault.git", "t", None),
        ("/srv/vault.git", "t", None),
        ("https://github.com/org/vault.git", None, None),
    ],
)
def test_the_token_is_for_the_remotes_host_alone(url: str, token: str | None, scoped: str | None) -> None:
    config = vault_git.credentials(url, token)
    assert [name for name in config if name.startswith("http.")] == ([scoped] if scoped else [])


def test_urls_of_repositories() -> None:
    assert url_of("org/repo") == "https://github.com/org/repo.git"
    assert url_of("https://x:y@github.com/org/repo") == "https://github.com/org/repo"
    assert without_credentials("git@github.com:org/repo.git") == "git@github.com:org/repo.git"
    assert without_credentials("ssh://git@host/repo") == "ssh://git@host/repo"


def test_nothing_is_written_to_the_users_git_configuration(
    world: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "someone else")
    task()
    world.sync()
    monkeypatch.delenv("GIT_DIR")
    assert list(home.iterdir()) == []
    assert git(world.path, "log", "-1", "--format=%an") == "lobwife sync"
