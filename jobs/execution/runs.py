"""The transitions of runs: requested, claimed, ended. A run's row is the only thing that makes a script start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from core import processes
from core.database.clock import clock
from core.errors import Conflict, Invalid, NotFound
from core.logs import current_request_id
from core.timestamps import iso_text, utc_now
from jobs import services
from jobs.alerts import rules
from jobs.execution import output, reasons
from jobs.execution.queues import queue
from jobs.execution.run_events import append_run_event, append_run_events
from jobs.models import ACTIVE, FAILURES, Concurrency, Job, JobRun, JobRunQuerySet, JobState, Node, State, Trigger

# The contract's `last_status` has fewer words: an aborted or lost run failed, for callers.
_LAST_STATUS = {State.ABORTED: State.FAILED, State.LOST: State.FAILED}
_KEPT_COLUMNS = (
    *("script", "schedule", "timezone", "timeout_seconds", "concurrency"),
    *("environment", "secrets", "working_directory", "runs_on"),
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Process:
    """The supervisor of a run; boot id and start time tell a reused pid apart."""

    pid: int
    started: int
    boot_id: str


@dataclass(frozen=True)
class Ending:
    """The end of a run. `duration` is in seconds."""

    state: str
    note: str = ""
    exit_code: int | None = None
    signal: int | None = None
    duration: float | None = None
    output_bytes: int = 0


def definition_of(job: Job, arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Return the job as a run keeps it, whatever is edited later."""
    return {name: getattr(job, name) for name in _KEPT_COLUMNS} | {
        "arguments": list(job.arguments if arguments is None else arguments)
    }


def new_run(
    job: Job, trigger: Trigger, now: datetime, *, arguments: Sequence[str] | None = None, **fields: Any
) -> JobRun:
    """Return a run of the job that is queued from now on; `insert()` stores it."""
    return JobRun(job=job, trigger=trigger, queued_at=now, definition=definition_of(job, arguments), **fields)


def insert(new: Sequence[JobRun], *, actor: str | None = None) -> None:
    """Store new runs, with their events, and offer those that are queued to runners; within a transaction."""
    append_run_events(JobRun.objects.bulk_create(new), actor=actor)
    queue().offer([run for run in new if run.state == State.QUEUED])


def request_run(
    *,
    name: str,
    trigger: Trigger,
    requested_by: str,
    arguments: Sequence[str] | None = None,
    retry_of: JobRun | None = None,
) -> JobRun:
    """Queue a run by hand; a disabled job can be. Raises NotFound, Invalid, or Conflict when the job is running."""
    if arguments is not None and any(not isinstance(word, str) or "\0" in word for word in arguments):
        raise Invalid("arguments must be a list of texts without NUL characters")
    now = utc_now()
    with transaction.atomic():
        job = services.get_job(name)
        if make_room(job, now, by=f"a run that {requested_by or trigger} asked for"):
            raise Conflict(f"Job {name} is already running")
        attempt = retry_of.attempt + 1 if retry_of else 1
        run = new_run(
            job, trigger, now, arguments=arguments, requested_by=requested_by, attempt=attempt, retry_of=retry_of
        )
        # The request's id goes along: the daemon and the script log it too.
        run.definition["request_id"] = current_request_id()
        insert([run], actor=requested_by)
    log.info("run %s of job %s was asked for by %s", run.pk, name, requested_by or trigger, extra=_log_fields(run))
    return run


def _log_fields(run: JobRun) -> dict[str, object]:
    """Return the fields that a log line about the run has besides its message."""
    identifier = run.definition.get("request_id", "") if isinstance(run.definition, dict) else ""
    return {"run": run.pk, "job": run.job.name, "request_id": identifier}


def make_room(job: Job, now: datetime, *, by: str) -> str | None:
    """Apply the job's concurrency to a run that is about to be queued; return why it can't be, else None.

    A retry that still waits for its time gives way, unless runs may be side by side. Called within the transaction that
    inserts the run.
    """
    runs = JobRun.objects.filter(job=job)
    active = list(runs.active().only("id", "state", "not_before").order_by("id"))
    retries = [run.pk for run in active if run.state == State.QUEUED and (run.not_before or now) > now]
    refusal = _refusal(job, [run for run in active if run.pk not in retries])
    if refusal:
        return refusal
    if retries and job.concurrency != Concurrency.ALLOW:
        _end_queued(runs.filter(pk__in=retries), State.SKIPPED, now, f"gave way to {by}")
    if job.concurrency == Concurrency.REPLACE:
        _end_queued(runs, State.SKIPPED, now, f"replaced by {by}")
        runs.request_abort(now, "its job's concurrency (replace)")
    return None


def _end_queued(runs: JobRunQuerySet, state: State, now: datetime, reason: str, **values: str) -> int:
    """End those of the runs that are queued, each with its event; return how many."""
    queued = list(runs.filter(state=State.QUEUED).order_by("id").values_list("pk", flat=True))
    count = runs.end_queued(state, now, reason, **values)
    queue().withdraw(queued)
    for run in JobRun.objects.filter(pk__in=queued).select_related("job").order_by("id"):
        append_run_event(run, actor=values.get("abort_requested_by"))
    return count


def _refusal(job: Job, active: Sequence[JobRun]) -> str | None:
    """Return why the job's concurrency allows no run beside these; None when it does."""
    if not active or job.concurrency == Concurrency.REPLACE:
        return None
    if job.concurrency == Concurrency.FORBID:
        return f"run {active[-1].pk} was not over"
    if job.concurrency == Concurrency.ALLOW:
        return f"{len(active)} runs were not over, its maximum" if len(active) >= job.max_parallel else None
    queued = [run.pk for run in active if run.state == State.QUEUED]
    return f"run {queued[0]} waits already" if queued else None


def abort_run(*, run_id: int, actor: str) -> JobRun:
    """Ask for the end of a run: a queued one ends at once, a running one when its processes are gone.

    Raises NotFound, or Conflict when it is over.
    """
    now = utc_now()
    with transaction.atomic():
        rows = JobRun.objects.filter(pk=run_id)
        reason = f"aborted by {actor} before it started"
        if not _end_queued(rows, State.ABORTED, now, reason, abort_requested_by=actor):
            rows.request_abort(now, actor)
        run = get_run(run_id)
        if run.state not in (*ACTIVE, State.ABORTED) or (run.ended_at and run.ended_at < now):
            raise Conflict(f"run {run_id} is over: {run.state}")
    log.info("an abort of run %s of job %s was asked for by %s", run_id, run.job.name, actor)
    return run


def retry_run(*, run_id: int, requested_by: str, trigger: Trigger, arguments: Sequence[str] | None = None) -> JobRun:
    """Queue the run's job again, with the same arguments if none are passed.

    Raises NotFound, Invalid, or Conflict while the job is running.
    """
    run = get_run(run_id)
    if run.is_active:
        raise Conflict(f"run {run_id} is not over")
    words = run.arguments if arguments is None else arguments
    return request_run(name=run.job.name, trigger=trigger, requested_by=requested_by, arguments=words, retry_of=run)


def get_run(run_id: int) -> JobRun:
    """Return the run with its job; raises NotFound."""
    run = JobRun.objects.select_related("job").filter(pk=run_id).first()
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    return run


def record_start(run: JobRun, process: Process, *, node: Node | None = None, most_at_once: int | None = None) -> bool:
    """Claim a queued run for its supervisor; return False when it is no longer queued, or its job has no place for it.

    `most_at_once`: of the job's runs, where those of other nodes count too.
    """
    now = utc_now()
    supervisor = {"pid": process.pid, "pid_started": process.started, "boot_id": process.boot_id}
    if node is not None:
        supervisor |= {"node": node.name, "node_row": node.pk}
    where = {"definition": run.definition} if isinstance(run.definition, dict) else {}  # it has the script's path now
    with transaction.atomic():
        if most_at_once is not None and running_of(run.job_id) >= most_at_once:
            return False
        if not run.change([State.QUEUED], state=State.RUNNING, started_at=now, **supervisor, **where):
            return False
        services.count_start(run.job.name, started=iso_text(now))
        append_run_event(run, state=State.RUNNING)
        rules.on_start(run, now)
    run.state, run.started_at = State.RUNNING, now
    log.info("run %s of job %s started", run.pk, run.job.name, extra=_log_fields(run))
    return True


def running_of(job_id: int) -> int:
    """Return how many runs of a job are running, on whichever node."""
    return JobRun.objects.filter(job=job_id, state=State.RUNNING).count()


def requeue(run: JobRun, process: Process) -> None:
    """Queue a run again that was claimed for a supervisor, and whose script was certainly not started."""
    claimed = JobRun.objects.filter(
        pk=run.pk, state=State.RUNNING, pid=process.pid, pid_started=process.started, boot_id=process.boot_id
    )
    nobody = {"pid": None, "pid_started": None, "boot_id": "", "node": "", "node_row": None}
    with transaction.atomic():
        if claimed.update(state=State.QUEUED, started_at=None, **nobody):
            services.uncount_start(run.job.name)
            append_run_event(run, state=State.QUEUED)
            log.info("run %s of job %s was claimed and not started: it is queued again", run.pk, run.job.name)


def record_end(run: JobRun, ending: Ending) -> None:
    """Close a run, update its job's summary, and queue a retry where the job wants one; does nothing when closed.

    A skipped run leaves the summary as it is: callers know no such status.
    """
    now = utc_now()
    started = run.state == State.RUNNING
    last_output = _last_output(run, ending)
    if ending.state in (State.FAILED, State.TIMEOUT):
        ending = replace(ending, note=reasons.of_ending(run.pk, ending.exit_code, ending.note))
    values = asdict(ending) | {"note": "; ".join(filter(None, (run.note, ending.note)))}
    with transaction.atomic():
        if not run.change(ACTIVE, ended_at=now, **values):
            return
        append_run_event(run, actor=run.abort_requested_by if ending.state == State.ABORTED else None, **values)
        run.job.refresh_from_db()  # it may have been edited while the script ran
        if ending.state != State.SKIPPED:
            _summarize(run, ending, last_output, started=started)
        _queue_retry(run, ending.state, now)
        rules.on_end(run, ending.state, ending.note, ending.duration, now)
    result = ending.state + (f" ({ending.note})" if ending.note else "")
    log.info("run %s of job %s ended: %s", run.pk, run.job.name, result, extra=_log_fields(run))


def _summarize(run: JobRun, ending: Ending, last_output: str, *, started: bool) -> None:
    values: dict[str, object] = {
        "last_status": _LAST_STATUS.get(State(ending.state), ending.state),
        "last_output": last_output,
    }
    if started:
        values["last_duration"] = None if ending.duration is None else round(ending.duration, 1)
        values["fail_count"] = F("fail_count") + (1 if ending.state in FAILURES else 0)
    JobState.objects.get_or_create(name=run.job.name)
    JobState.objects.filter(name=run.job.name).update(**values)


def _last_output(run: JobRun, ending: Ending) -> str:
    if ending.state == State.TIMEOUT:
        return f"Job timed out after {run.definition['timeout_seconds']}s"
    text = output.last_lines(run.pk)
    return text or (ending.note if ending.state != State.SUCCESS else "")


def _queue_retry(run: JobRun, state: str, now: datetime) -> None:
    job = run.job
    if state not in (*FAILURES, State.ABORTED) or run.attempt > job.retries or not isinstance(run.definition, dict):
        return
    if job.most_at_once == 1 and JobRun.objects.active().filter(job=job, pk__gt=run.pk).exists():
        return  # a newer run is on its way already
    if JobRun.objects.filter(pk=run.pk, abort_requested_at__isnull=False).exists():
        return  # somebody wanted its end, however it came about; the stop of its daemon or runner is no such wish
    wait = round(processes.backoff(run.attempt - 1, job.retry_delay_seconds, job.retry_delay_max_seconds))
    retry = new_run(
        job,
        Trigger.RETRY,
        now,
        arguments=run.definition.get("arguments"),
        requested_by=run.requested_by,
        not_before=now + clock().ahead + timedelta(seconds=wait),
        attempt=run.attempt + 1,
        retry_of=run,
        note=f"attempt {run.attempt + 1} of {job.retries + 1}, {wait} s after run {run.pk}",
    )
    insert([retry])
