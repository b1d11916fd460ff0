"""The life of a lease: claim, heartbeat, release, taking away, expiry. Each is one transaction with its event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F

from core import processes
from core.callers import Caller, Role
from core.database.clock import database_now
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.timestamps import seconds_text
from tasks import queries as task_queries
from tasks.events import FeedEvent, append_event, lease_fields
from tasks.leases import ends, queries
from tasks.leases.queries import Lanes, NewLease
from tasks.models import LEASE_ENDED, OVER, LeaseEnd, Status, Task, TaskLease, TaskPlan
from tasks.questions.models import Question
from tasks.questions.services import take_answers
from tasks.relations import follow_status

OUTCOMES = (Status.COMPLETED, Status.FAILED, Status.QUEUED, Status.BLOCKED)
# A heartbeat, and a call that only renews, is written a tenth of the lease after the last one, or so long after it.
_BEAT_APART = timedelta(seconds=1)
_RENEWALS_APART = timedelta(seconds=10)
_EXPIRED_AT_ONCE = 50
OnFailed = Callable[[int, str], None]


@dataclass(frozen=True)
class Beat:
    """The response to a heartbeat: the sentence for a holder who is to stop, and the answers to its questions."""

    expires_at: datetime
    reason: str | None = None
    answers: list[Question] = field(default_factory=list)


@dataclass(frozen=True)
class Release:
    """What a release did: the same for each repetition of it."""

    task_id: int
    fence: int
    outcome: str
    released_at: datetime


def claim_task(*, lanes: Lanes, candidate: int, seconds: int, runner: str, caller: Caller) -> NewLease | None:
    """Take the candidate, or the first ready task of these lanes, with a lease; None when there is none.

    Call it within a transaction, in which the caller's key for the lease is made too.
    """
    now = database_now()
    # The name that a runner gives itself could be that of a Kubernetes job, whose agent would then get this task.
    assigned_to = caller.name if caller.role is Role.RUNNER else runner or caller.name
    task_id = queries.take(lanes, candidate, assigned_to, now)
    if task_id is None:
        return None
    left_over = queries.live_lease(task_id)  # of a task that was queued again past the services
    if left_over is not None:
        reason = f"task T{task_id} was queued again"
        ends.take_lease_away(left_over, reason, None, seconds_text(now), Status.ACTIVE, None)
    lease = queries.insert_lease(
        task_id,
        holder=caller.name,
        runner=runner,
        assigned_to=assigned_to,
        seconds=seconds,
        now=now,
        expires_at=now + timedelta(seconds=seconds),
    )
    detail = f"Claimed by {runner or caller.name}: fence {lease.fence}, attempt {lease.attempt}"
    fields = {"fence": lease.fence, "attempt": lease.attempt, "holder": caller.name, "runner": runner}
    tells = FeedEvent("lease.claimed", {**fields, "expires_at": lease.expires_at})
    append_event(
        task_id, "claimed", detail, runner or caller.name, seconds_text(now), Status.ACTIVE, caller, tells=tells
    )
    return lease


def heartbeat(*, task_id: int, fence: int, caller: Caller, progress: str | None = None) -> Beat:
    """Renew a lease and say whether to stop; raises NotFound, Forbidden, and Conflict for one that is over."""
    lease = _lease(task_id, fence, caller)
    now = database_now()
    reason = ends.stop_reason(lease)
    if not lease.is_alive(now):
        if reason is None:
            raise ends.over(task_id, fence)
        return Beat(lease.expires_at, reason)
    is_new = progress is not None and progress != lease.progress
    if not is_new and _is_fresh(lease.beat_at, seconds=lease.seconds, most=_BEAT_APART, now=now):
        return Beat(lease.expires_at, reason, take_answers(task_id))
    expires_at = now + timedelta(seconds=lease.seconds)
    if queries.beat(lease.pk, now=now, expires_at=expires_at, progress=progress):
        return Beat(expires_at, reason, take_answers(task_id))
    return heartbeat(task_id=task_id, fence=fence, caller=caller, progress=progress)  # it ended meanwhile


def renewal_is_due(*, seconds: int, beat_at: datetime, now: datetime) -> bool:
    """Return whether a call with a lease's key is to renew it."""
    return not _is_fresh(beat_at, seconds=seconds, most=_RENEWALS_APART, now=now)


def _is_fresh(beat_at: datetime, *, seconds: int, most: timedelta, now: datetime) -> bool:
    return timedelta(0) <= now - beat_at < min(most, timedelta(seconds=seconds / 10))


def renew(*, lease_id: int, seconds: int, now: datetime) -> None:
    """Renew a lease that is alive."""
    queries.beat(lease_id, now=now, expires_at=now + timedelta(seconds=seconds))


def release_task(*, task_id: int, fence: int, outcome: str, reason: str, caller: Caller) -> Release:
    """Hand a task back; repeated, it does nothing and says the same.

    Raises Invalid, NotFound, Forbidden, and Conflict for a lease that is over or was released otherwise.
    """
    if outcome not in OUTCOMES:
        raise Invalid(f"outcome must be one of {', '.join(OUTCOMES)}")
    lease = _lease(task_id, fence, caller)
    if lease.end == LeaseEnd.RELEASED and lease.ended_at is not None:
        if lease.outcome != outcome:
            sentence = f"fence {fence} of task T{task_id} was released as {lease.outcome}, not as {outcome}"
            raise Conflict(sentence, code=ends.code_of(lease.end))
        return Release(task_id, fence, outcome, lease.ended_at)
    now = database_now()
    if not lease.is_alive(now):
        raise ends.over(task_id, fence)
    text = seconds_text(now)
    with transaction.atomic():
        released = queries.end(lease.pk, now=now, how=LeaseEnd.RELEASED, outcome=outcome, reason=reason)
        if released:
            if not queries.set_status(task_id, outcome, now):
                raise Conflict(f"task T{task_id} is {task_queries.task_status(task_id)}, not active")
            queries.forget_expiries(task_id)
            detail = f"Released by {lease.who} as {outcome}{f': {reason}' if reason else ''}"
            event_type = "released" if outcome in OVER else LEASE_ENDED
            tells = FeedEvent("lease.released", lease_fields(lease, outcome=outcome, reason=reason))
            append_event(task_id, event_type, detail, lease.runner or lease.holder, text, outcome, caller, tells=tells)
            follow_status(task_id, outcome, text)
    if not released:  # it ended meanwhile
        return release_task(task_id=task_id, fence=fence, outcome=outcome, reason=reason, caller=caller)
    return Release(task_id, fence, outcome, now)


def take_away(
    *, task_id: int, actor: str, caller: Caller | None, reason: str = "", fence: int | None = None
) -> TaskLease:
    """Take a task from its holder and queue it again; raises Conflict when nobody has it, or not with this fence."""
    with transaction.atomic():
        if task_queries.task_status(task_id) is None:
            raise NotFound(f"Task T{task_id} not found")
        lease = queries.live_lease(task_id)
        if lease is None or fence not in (None, lease.fence):
            raise Conflict(f"nobody holds task T{task_id}" if lease is None else f"{lease.who} holds it by now")
        now = database_now()
        status = Status.QUEUED if queries.set_status(task_id, Status.QUEUED, now) else task_queries.task_status(task_id)
        sentence = reason or f"{actor} took task T{task_id} away"
        ends.take_lease_away(lease, sentence, actor, seconds_text(now), str(status), caller)
    return lease


def expire_leases(on_failed: OnFailed) -> bool:
    """End leases whose time is over; returns whether there may be more. `on_failed` is called in the transaction."""
    now = database_now()
    overdue = list(
        TaskLease.objects.filter(ended_at=None, expires_at__lte=now).order_by("expires_at")[:_EXPIRED_AT_ONCE]
    )
    for lease in overdue:
        _expire(lease, now, on_failed)
    return len(overdue) == _EXPIRED_AT_ONCE


def _expire(lease: TaskLease, now: datetime, on_failed: OnFailed) -> None:
    with transaction.atomic():
        still = TaskLease.objects.filter(pk=lease.pk, ended_at=None, expires_at__lte=now)
        if not still.update(ended_at=now, end=LeaseEnd.EXPIRED):
            return  # a heartbeat came
        task = Task.objects.filter(pk=lease.task_id).only("pk", "type", "status").first()
        if task is None:
            return
        TaskPlan.objects.filter(pk=lease.task_id).update(expiries=F("expiries") + 1)
        count = TaskPlan.objects.values_list("expiries", flat=True).get(pk=lease.task_id)
        most = settings.LEASE_STRIKES.get(task.type, settings.LEASE_STRIKES["default"])
        status = Status.FAILED if count >= most else Status.QUEUED
        detail = f"The lease of {lease.who} expired (fence {lease.fence}, attempt {lease.attempt})"
        if not queries.set_status(lease.task_id, status, now):
            status, detail = Status(task.status), f"{detail}; the task is {task.status}"
        elif status == Status.QUEUED:
            wait = processes.backoff(count - 1, settings.LEASE_BACKOFF_SECONDS, settings.LEASE_BACKOFF_MOST_SECONDS)
            TaskPlan.objects.filter(pk=lease.task_id).update(retry_at=now + timedelta(seconds=wait))
            detail = f"{detail}; queued again, claimed no sooner than in {wait:.0f} s"
        else:
            detail = f"{detail}; failed, since {count} leases in a row expired"
            on_failed(lease.task_id, detail)
        ends.end_registration(lease.task_id)
        text = seconds_text(now)
        tells = FeedEvent("lease.expired", lease_fields(lease))
        append_event(lease.task_id, LEASE_ENDED, detail, None, text, status, None, tells=tells)
        follow_status(lease.task_id, status, text)


def _lease(task_id: int, fence: int, caller: Caller) -> TaskLease:
    """Return the lease that a call is about; raises NotFound, Conflict, Forbidden."""
    lease = queries.lease_of(task_id, fence)
    if lease is None:
        if task_queries.task_status(task_id) is None:
            raise NotFound(f"Task T{task_id} not found")
        raise ends.over(task_id, fence)
    if caller.fence is not None and caller.fence != fence:
        raise ends.over(task_id, caller.fence)
    if caller.role in (Role.SERVICE, Role.RUNNER) and caller.name != lease.holder:
        raise Forbidden(f"{lease.holder} claimed task T{task_id}, not {caller.name}")
    return lease
