"""What the daemon does beside running scripts: put together here, since it crosses the apps."""

from __future__ import annotations

from collections.abc import Callable

from broker.follower import Follower
from core.sqlite import copies, restore_test
from core.sqlite import upkeep as upkeep_of_database
from jobs.alerts.delivery import AlertSender
from jobs.alerts.pings import PingSender
from jobs.alerts.rules import Watch
from jobs.execution import retention
from lobwife.daemon.loop import Loop
from lobwife.daemon.vault_token import vault_token
from vaultsync.follower import VaultFollower


def upkeep() -> dict[str, tuple[Callable[[], object], str]]:
    """Periodic work, by name, with when (five cron fields, UTC)."""
    return {
        "prune runs": (retention.prune, "17 * * * *"),
        "checkpoint": (upkeep_of_database.checkpoint, "*/5 * * * *"),
        "optimize": (upkeep_of_database.optimize, "23 4 * * *"),
    }


def loops() -> list[Loop]:
    """Followers and the like, each in a thread of its own."""
    return [
        Loop("the hourly copy of the database", copies.keep_when_due, every_seconds=60, idle_seconds=60),
        Loop("the weekly trial of a copy", restore_test.try_when_due, every_seconds=600, idle_seconds=600),
        Loop("the broker's follower", Follower().tick, every_seconds=0.5),
        Loop("the vault's follower", VaultFollower(vault_token).tick, every_seconds=0.1),
        Loop("observer for late and long runs", Watch().tick, every_seconds=5, idle_seconds=5),
        Loop("send alerts", AlertSender().tick, every_seconds=1),
        Loop("call watchdogs", PingSender().tick, every_seconds=1),
    ]
