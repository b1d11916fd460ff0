"""The one lock for everything that touches the vault: daemon, `manage.py sync`, scripts (docs/vault.md)."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import pathlib
import time
from collections.abc import Iterator

from core.errors import Unavailable

_NAME = "vault.lock"
_POLL_SECONDS = 0.05


@contextlib.contextmanager
def vault_lock(state_dir: pathlib.Path, *, wait_seconds: float) -> Iterator[int]:
    """Hold the lock and yield its descriptor; raises Unavailable when another keeps it for too long.

    git inherits the descriptor, so that the lock is free only when a killed sync's last git is gone as well.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    with open(state_dir / _NAME, "a", opener=functools.partial(os.open, mode=0o600)) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Unavailable("another process works in the vault; try again when it is done") from None
                time.sleep(_POLL_SECONDS)
        try:
            yield file.fileno()
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
