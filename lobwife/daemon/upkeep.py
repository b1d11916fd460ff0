"""The daemon's periodic work and its loops, of all apps, and the credentials that the vault gets from the broker."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings

from access import idempotency
from access.keys import prune_lease_keys
from broker.audit import SYSTEM
from broker.follower import Follower
from broker.tokens.issue import issue_service_token
from core.database.backend import is_postgres
from core.database.clock import clock
from core.sqlite import copies, restore_test
from core.sqlite.upkeep import checkpoint, optimize
from events import retention as events_retention
from jobs import nodes
from jobs import secrets as job_secrets
from jobs.alerts.delivery import AlertSender, PingSender
from jobs.alerts.rules import Watch, on_task_failed
from jobs.execution import retention
from jobs.execution.dead_runners import DeadRunners
from lobwife.daemon.loop import Loop
from ops.alerts.watch import Watch as ConditionWatch
from tasks.costs.prices import Pricer
from tasks.leases.expiry import Expiry
from vaultsync.follower import VaultFollower
from webhooks import follower as webhooks
from webhooks import services as webhook_services

VAULT_SERVICE = "lobwife-sync"


def upkeep() -> dict[str, tuple[Callable[[], object], str]]:
    """Return the periodic work by name, with its schedule: five cron fields, in UTC."""
    file: dict[str, tuple[Callable[[], object], str]] = {
        "checkpoint": (checkpoint, "*/5 * * * *"),
        "optimize": (optimize, "23 4 * * *"),
    }
    return {
        "encrypt secrets anew": (encrypt_secrets_anew, "7 * * * *"),
        "prune runs": (retention.prune, "17 * * * *"),
        "prune events": (events_retention.prune, "27 * * * *"),
        "prune lease keys": (prune_lease_keys, "37 * * * *"),
        "forget kept answers": (idempotency.trim, "37 * * * *"),
        "prune deliveries": (webhooks.prune, "47 * * * *"),
        **({"prune nodes": (nodes.prune, "57 * * * *")} if is_postgres() else file),  # a server looks after itself
    }


def encrypt_secrets_anew() -> None:
    """Encrypt what was stored under an earlier secret key with the present one, so that the earlier can be dropped."""
    job_secrets.encrypt_anew()
    webhook_services.encrypt_anew()


def loops(begin_thread: Callable[[], None]) -> list[Loop]:
    """Return the followers and the like, each of which runs in a thread of its own.

    `begin_thread` is called first in each thread that one of them starts.
    """
    file = [
        Loop("the hourly copy of the database", copies.keep_when_due, every_seconds=60, idle_seconds=60),
        Loop("the weekly restore test", restore_test.run_when_due, every_seconds=600, idle_seconds=600),
    ]
    server = [Loop("settle runs of dead runners", DeadRunners().tick, every_seconds=2, idle_seconds=2)]
    return [
        *(server if is_postgres() else file),
        Loop("the broker's follower", Follower().tick, every_seconds=0.5),
        Loop(
            "the vault's follower",
            VaultFollower(vault_token).tick,
            every_seconds=0.1,
            idle_seconds=min(10, settings.VAULT_SYNC_INTERVAL),
        ),
        Loop("expiry of leases", _expiry(), every_seconds=1),
        Loop("observer for late and long runs", Watch().tick, every_seconds=5),
        Loop("observer of what is not well", ConditionWatch().tick, every_seconds=10, idle_seconds=60),
        Loop("look up prices", Pricer().tick, every_seconds=2),
        Loop("follower of webhooks", webhooks.Follower(begin_thread).tick, every_seconds=0.1),
        Loop("send alerts", AlertSender().tick, every_seconds=1),
        Loop("call watchdogs", PingSender().tick, every_seconds=1),
    ]


def _expiry() -> Callable[[], bool | float]:
    """Return the tick that ends leases, by the database's clock as it is now."""
    expiry = Expiry(on_task_failed)

    def tick() -> bool | float:
        clock().compare()
        return expiry.tick()

    return tick


def vault_token() -> str | None:
    """Return a token for the vault's remote; None without a GitHub App, when git uses what credentials it has."""
    if not settings.GH_APP_ID:
        return None
    return issue_service_token(service=VAULT_SERVICE, caller=SYSTEM).token
