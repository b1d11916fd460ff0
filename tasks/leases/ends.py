"""The end of a lease, within the transaction of the change that ends it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from core.callers import Caller, Role
from core.database.clock import database_now
from core.errors import Conflict
from tasks.costs.spent import spent_budget_of
from tasks.events import FeedEvent, append_event, append_lease_end, lease_fields
from tasks.leases import queries
from tasks.models import LEASE_ENDED, OVER, REGISTRATION_ACTIVE, REGISTRATION_ENDED, LeaseEnd, Status, Task, TaskLease


def end_registration(task_id: int) -> None:
    """End the registration for tokens that a task has."""
    registered = Task.objects.filter(pk=task_id, broker_status=REGISTRATION_ACTIVE)
    registered.update(broker_status=REGISTRATION_ENDED)


def stop_reason(lease: TaskLease) -> str | None:
    """Return the sentence that a heartbeat says `stop` with; None while the holder may go on."""
    if lease.end == LeaseEnd.CANCELLED:
        return f"task T{lease.task_id} was cancelled"
    if lease.end == LeaseEnd.TAKEN_AWAY:
        return lease.reason
    return spent_budget_of(lease.task_id) if not lease.end else None


def check_lease(caller: Caller | None, task_id: int | None = None) -> None:
    """Raise Conflict for a caller with the key of a lease that is over, and for a runner that doesn't hold the task.

    Call it within the transaction of a write.
    """
    if caller is not None and caller.role is Role.RUNNER:
        lease = queries.live_lease(task_id or 0)
        if lease is None or lease.holder != caller.name or not lease.is_alive(database_now()):
            raise Conflict(f"{caller.name} holds no lease of task T{task_id}")
        return
    if caller is None or caller.fence is None:
        return
    if not is_alive(caller.task_id or 0, caller.fence, database_now()):
        raise over(caller.task_id or 0, caller.fence)


def is_alive(task_id: int, fence: int, now: datetime) -> bool:
    """Return whether this is the lease that its task has now."""
    lease = queries.lease_of(task_id, fence)
    return lease is not None and lease.is_alive(now)


def over(task_id: int, fence: int) -> Conflict:
    """Return the error that says why a fence is no good any more, and who has the task now."""
    lease = queries.lease_of(task_id, fence)
    how = (lease.end or LeaseEnd.EXPIRED) if lease else "unknown"
    state = f"is over ({how})" if lease else "was never given"
    newest = queries.live_lease(task_id)
    holder = (
        f"{newest.who} holds it with fence {newest.fence}" if newest and newest.fence != fence else "nobody holds it"
    )
    return Conflict(f"fence {fence} of task T{task_id} {state}; {holder}", code=code_of(how))


def code_of(how: str) -> str:
    """Return the code of an error about a lease that ended so."""
    return f"lease_{how.replace(' ', '_')}"


def follow_change(
    task_id: int, changes: Mapping[str, Any], status: str, actor: str | None, now: str, caller: Caller | None
) -> None:
    """End the lease of a task that a change gives another status than active, or to somebody else."""
    if "status" not in changes and "assigned_to" not in changes:
        return
    lease = queries.live_lease(task_id)
    if lease is None:
        return
    is_own = caller is not None and caller.fence == lease.fence and caller.task_id == task_id
    who = actor or (caller.name if caller is not None else "somebody")
    if status != Status.ACTIVE:
        end_by_status(lease, status, who, now, caller, is_own=is_own)
    elif "assigned_to" in changes and changes["assigned_to"] != lease.assigned_to:
        reason = f"{who} assigned task T{task_id} to {changes['assigned_to'] or 'nobody'}"
        take_lease_away(lease, reason, actor, now, status, caller)


def end_by_status(
    lease: TaskLease, status: str, who: str, now: str, caller: Caller | None, *, is_own: bool = False
) -> None:
    """End the lease of a task that has got a status other than active."""
    moment = database_now()
    if is_own:
        queries.end(lease.pk, now=moment, how=LeaseEnd.RELEASED, outcome=status)
        if status in OVER:
            append_lease_end("lease.released", lease, status, caller, outcome=status, reason="")
        else:
            tells = FeedEvent("lease.released", lease_fields(lease, outcome=status, reason=""))
            detail = f"{lease.who} set it to {status}"
            append_event(lease.task_id, LEASE_ENDED, detail, who, now, status, caller, tells=tells)
            end_registration(lease.task_id)
    elif status == Status.CANCELLED:
        queries.end(lease.pk, now=moment, how=LeaseEnd.CANCELLED)
        append_lease_end("lease.cancelled", lease, status, caller)
    else:
        take_lease_away(lease, f"{who} set task T{lease.task_id} to {status}", who, now, status, caller)


def take_lease_away(
    lease: TaskLease, reason: str, actor: str | None, now: str, status: str, caller: Caller | None
) -> None:
    """End a lease against its holder, who is told at its next heartbeat; the tokens of the task end with it."""
    queries.end(lease.pk, now=database_now(), how=LeaseEnd.TAKEN_AWAY, reason=reason)
    end_registration(lease.task_id)
    detail = f"Taken away from {lease.who} (fence {lease.fence}): {reason}"
    tells = FeedEvent("lease.taken_away", lease_fields(lease, reason=reason))
    append_event(lease.task_id, LEASE_ENDED, detail, actor, now, status, caller, tells=tells)
