"""Notification of commits, so that nobody needs to look at the database all the time."""

from __future__ import annotations

from typing import Protocol

from django.db import DEFAULT_DB_ALIAS, connections


class Listener(Protocol):
    """For select(): readable after a commit, until `drain()`. A commit may be missed: look now and then as well."""

    def fileno(self) -> int:
        """Return the descriptor to wait for; another one after a `drain()`, maybe."""

    def drain(self) -> None:
        """Take what was received, so that the next commit makes it readable again."""

    def close(self) -> None:
        """Listen no more."""


def listener(*, is_web: bool = False) -> Listener:
    """Listen for commits from now on, as the daemon or as a process of web."""
    listening: Listener = connections[DEFAULT_DB_ALIAS].listen(is_web=is_web)  # type: ignore[attr-defined]
    return listening


def data_version() -> tuple[object, int]:
    """Return a pair that changes when any connection has written; where it can be told, the second by own writes."""
    version: tuple[object, int] = connections[DEFAULT_DB_ALIAS].data_version()  # type: ignore[attr-defined]
    return version
