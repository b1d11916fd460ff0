"""Runs one sync in a process of its own, and kills that process at a step: `VAULT_KILL_AT` is step:count."""

from __future__ import annotations

import os
import signal
import sys

import django

django.setup()

from vaultsync.sync import Sync  # noqa: E402
from vaultsync.vault import SyncObserver, Vault  # noqa: E402

step, _, count = os.environ["VAULT_KILL_AT"].partition(":")
left = int(count or 1)


def kill(at: str) -> None:
    global left
    if at == step:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)


full = "--full" in sys.argv
result = Sync(Vault.from_settings(), SyncObserver(on_step=kill)).run(
    reason="test", full=full, fetch="--fetch" in sys.argv
)
print(result)
