"""A bare remote, clones of it as people have them, and a vault to sync."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Callable
from copy import copy
from typing import Any

import pytest

from tasks.models import Task
from tasks.services import create_task, update_task
from vaultsync.follower import VaultFollower
from vaultsync.sync import Sync
from vaultsync.vault import SyncObserver, SyncResult, Vault

PERSON = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}
# What an observer of a sync hears, in this order.
STEPS = (
    *("fetched", "merged", "commit-made", "journal", "checkout-part", "checked-out", "committed"),
    *("recorded", "cursor", "pushed"),
)


def git(folder: pathlib.Path, *arguments: str, check: bool = True) -> str:
    """git as a person runs it; its output."""
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "maintenance.auto=false", *arguments],
        cwd=folder,
        env={**os.environ, **PERSON},
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, f"git {arguments}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


class Copy:
    """A person's clone."""

    def __init__(self, folder: pathlib.Path, remote: pathlib.Path) -> None:
        self.folder = folder
        git(folder.parent, "clone", "--quiet", str(remote), folder.name)

    def write(self, path: str, content: str | bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_bytes().decode()
        assert old in text, text
        self.write(path, text.replace(old, new, 1))

    def push(self, message: str = "by hand") -> str:
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "--quiet", "-m", message)
        if "rejected" in git(self.folder, "push", "--porcelain", "origin", "HEAD:main", check=False):
            self.pull()
            git(self.folder, "push", "--quiet", "origin", "HEAD:main")
        return git(self.folder, "rev-parse", "HEAD")

    def pull(self) -> None:
        git(self.folder, "pull", "--quiet", "--rebase")

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()


class World:
    """A vault with a bare remote, in a test's folder."""

    def __init__(self, folder: pathlib.Path, *, remote: bool = True) -> None:
        self.folder = folder
        self.path = folder / "vault"
        self.remote = folder / "remote.git"
        if remote:
            git(folder, "init", "--quiet", "--bare", "-b", "main", str(self.remote))
        self.vault = Vault(self.path, str(self.remote) if remote else "", folder / "state")

    def elsewhere(self, name: str) -> World:
        """The same remote with an empty place for a vault."""
        other = copy(self)
        other.path = self.folder / name
        other.vault = Vault(other.path, self.vault.repo, self.vault.state_dir)
        return other

    def sync(
        self,
        *,
        full: bool = False,
        fetch: bool = True,
        checkpoint: Callable[[str], None] | None = None,
        **options: Any,
    ) -> SyncResult:
        observer = SyncObserver(on_step=checkpoint) if checkpoint else SyncObserver()
        return Sync(self.vault, observer).run(reason="test", full=full, fetch=fetch, **options)

    def synced(self, **options: Any) -> SyncResult:
        """A sync that must succeed, and leave remote, branch, index and files the same."""
        result = self.sync(**options)
        assert (result.error, result.disabled, result.remote_error) == ("", "", "")
        head = git(self.remote if self.remote.exists() else self.path, "rev-parse", "main")
        status = git(self.path, "status", "--porcelain=v2", "--branch").splitlines()
        assert [line for line in status if not line.startswith("# branch.")] == []
        assert status[:2] == [f"# branch.oid {head}", "# branch.head main"]
        return result

    def clone(self, name: str = "clone") -> Copy:
        return Copy(self.folder / name, self.remote)

    def read(self, path: str) -> bytes:
        return (self.path / path).read_bytes()

    def text(self, path: str) -> str:
        return self.read(path).decode()

    def write(self, path: str, content: str | bytes) -> None:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.text(path)
        assert old in text, text
        self.write(path, text.replace(old, new, 1))

    def commits(self) -> int:
        return int(git(self.path, "rev-list", "--count", "HEAD"))

    def files(self) -> list[str]:
        return git(self.path, "ls-files").splitlines()


def task(name: str = "Fix the parser", **fields: Any) -> Task:
    """A task, made as everyone makes them."""
    return create_task(fields={"name": name, **fields}, actor="test")


def change(made: Task, **changes: Any) -> Task:
    update_task(task_id=made.pk, changes=changes, actor="test")
    made.refresh_from_db()
    return made


def note_of(made: Task, folder: str = "active") -> str:
    return f"010-tasks/{folder}/{made.task_id}.md"


@pytest.fixture
def world(tmp_path: pathlib.Path, settings: Any) -> World:
    """A vault with a bare remote; the settings name it."""
    made = World(tmp_path)
    settings.VAULT_PATH, settings.VAULT_REPO, settings.STATE_DIR = made.path, made.vault.repo, made.vault.state_dir
    return made


@pytest.fixture
def follower(world: World) -> VaultFollower:
    """The daemon's follower of that vault, which is ticked by the test."""
    return VaultFollower(vault=world.vault, interval=300)
