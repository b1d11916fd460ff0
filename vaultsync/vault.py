"""The vault to sync, the observer of a sync, and its result."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings

TokenProvider = Callable[[], str | None]  # None where the remote needs no token, or git finds its own credentials


@dataclass(frozen=True)
class Vault:
    """A working copy, the repository that it mirrors, and the directory of its lock."""

    path: pathlib.Path
    repo: str
    state_dir: pathlib.Path
    token: TokenProvider = lambda: None

    @classmethod
    def from_settings(cls, token: TokenProvider = lambda: None) -> Vault:
        """Return the vault that the settings name."""
        return cls(settings.VAULT_PATH, settings.VAULT_REPO, settings.STATE_DIR, token)


@dataclass(frozen=True)
class SyncObserver:
    """Callbacks of a sync: after each step, of notes compared (done, total), before waits of so many seconds."""

    on_step: Callable[[str], None] = lambda step: None
    on_progress: Callable[[int, int], None] = lambda done, total: None
    on_wait: Callable[[float], None] = lambda seconds: None


@dataclass
class SyncResult:
    """The result of a sync. `error` is a sentence; with only `remote_error` set, everything is committed here.

    Sentences are of one line: they quote git, remotes and file names, which can hold anything.
    """

    files: int = 0
    paths: list[str] = field(default_factory=list)
    commit: str = ""
    pushed: bool = False
    full: bool = False
    disabled: str = ""
    error: str = ""
    remote_error: str = ""
    notices: list[str] = field(default_factory=list)
