"""Which vault, and whose credentials."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

Token = Callable[[], str | None]


def no_token() -> str | None:
    """For a remote that needs none, or where git finds its own credentials."""
    return None


@dataclass(frozen=True)
class Vault:
    """A working copy, the repository it belongs to, and where its lock lies."""

    path: pathlib.Path
    repo: str
    state_dir: pathlib.Path
    token: Token = no_token

    @classmethod
    def configured(cls, token: Token = no_token) -> Vault:
        """The vault that the settings name."""
        return cls(settings.VAULT_PATH, settings.VAULT_REPO, settings.STATE_DIR, token)


def _nothing(step: str) -> None:
    """No one follows the steps."""


def _no_progress(done: int, total: int) -> None:
    """No one watches."""


def _no_wait(seconds: float) -> None:
    """No one asks whether it is alive."""


@dataclass(frozen=True)
class Watch:
    """Who hears of a sync: `checkpoint` of every step, `progress` of notes compared, `alive` of long waits."""

    checkpoint: Callable[[str], None] = _nothing
    progress: Callable[[int, int], None] = _no_progress
    alive: Callable[[float], None] = _no_wait
