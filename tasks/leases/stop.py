"""The reasons for which the holder of a lease is to stop."""

from __future__ import annotations

from tasks.costs.spent import spent_budget_of
from tasks.models import LeaseEnd, TaskLease


def stop_reason(lease: TaskLease) -> str | None:
    """Return the sentence that a heartbeat says `stop` with; None while the holder may go on."""
    if lease.end == LeaseEnd.CANCELLED:
        return f"task T{lease.task_id} was cancelled"
    if lease.end == LeaseEnd.TAKEN_AWAY:
        return lease.reason
    return spent_budget_of(lease.task_id) if not lease.end else None
