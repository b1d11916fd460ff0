"""The queue of several runners: each queued run has a job of procrastinate, in the queue named as the run's label.

The job is written in the transaction that writes the row, is `doing` while a runner has the run, and is deleted when it
is over. It says who may look at the run; that the run starts once alone is said by its row (`runs.record_start`).

procrastinate's functions write without lobwife's lock of writers: they lock single rows of their own table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Concat, Now
from django.db.utils import OperationalError
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from psycopg.errors import RaiseException

from core.database.clock import database_now
from jobs.execution.queues import RunQueue
from jobs.execution.queues.worker import STALLED_SECONDS, TASK, FetchedRuns
from jobs.models import JobRun, State

_LOCK, _RUN = "job {}", "run {}"
_AT_ONCE = 500


class DistributedQueue(RunQueue):
    """Queues runs by procrastinate, within the transaction of Django's connection."""

    def __init__(self) -> None:
        self._manager = JobManager(DjangoConnector())

    def offer(self, runs: Sequence[JobRun]) -> None:
        if runs:
            with _as_django_errors():
                self._manager.batch_defer_jobs([_job_of(run) for run in runs])

    def withdraw(self, run_ids: Sequence[int]) -> None:
        """Delete the jobs of these runs; one that a runner has fetched finds the row as it is now."""
        locks = [_RUN.format(run_id) for run_id in run_ids]
        waiting = ProcrastinateJob.objects.filter(queueing_lock__in=locks, status=Status.TODO.value)
        with _as_django_errors():
            for job_id in waiting.values_list("id", flat=True):
                self._manager.cancel_job_by_id(job_id, delete_job=True)

    def close(self, run_id: int) -> None:
        """Delete the run's job, whose lock keeps a retry waiting."""
        held = ProcrastinateJob.objects.filter(queueing_lock=_RUN.format(run_id), status=Status.DOING.value)
        for job_id in held.values_list("id", flat=True):
            self._delete(job_id)

    def mend(self) -> None:
        """Offer again what runners fetched that died before they started it, and what is queued without a job.

        Such rows come from a file of SQLite, or from before an update. Of a run that is over the job is deleted; of one
        that goes on it stays, since its runner may merely have lost its connection.
        """
        ids = {run: job_id for job_id, run in _stalled_jobs()}
        states = dict(JobRun.objects.filter(pk__in=ids).values_list("pk", "state"))
        for run_id, job_id in ids.items():
            state = states.get(run_id)
            if state == State.QUEUED:
                with _unless_another_has_dealt_with_it():
                    self._manager.retry_job_by_id(job_id, retry_at=database_now())
            elif state != State.RUNNING:
                self._delete(job_id)
        if without := list(_without_job()[:_AT_ONCE]):
            with transaction.atomic():
                self.offer(without)

    def source(self, labels: Sequence[str], slots: int, wake: Callable[[], object]) -> FetchedRuns:
        return FetchedRuns(labels, slots, wake)

    def _delete(self, job_id: int) -> None:
        with _unless_another_has_dealt_with_it():
            async_to_sync(self._manager.finish_job_by_id_async)(job_id, Status.ABORTED, delete_job=True)


def _stalled_jobs() -> QuerySet[ProcrastinateJob, tuple[int, int]]:
    """Return id and run of the jobs whose worker is gone; past procrastinate, which can't read arguments by Django."""
    is_gone = Q(worker=None) | Q(worker__last_heartbeat__lt=Now() - timedelta(seconds=STALLED_SECONDS))
    doing = ProcrastinateJob.objects.filter(is_gone, status=Status.DOING.value, task_name=TASK)
    return doing.values_list("id", "args__run_id")


def _without_job() -> QuerySet[JobRun]:
    lock = Concat(Value(_RUN.format("")), Cast("pk", TextField()), output_field=TextField())
    jobs = ProcrastinateJob.objects.filter(queueing_lock=OuterRef("lock"))
    return JobRun.objects.waiting().select_related("job").annotate(lock=lock).exclude(Exists(jobs))


def _job_of(run: JobRun) -> Job:
    """Return what procrastinate queues for a run. Of a job that runs one at a time, one run is fetched after the other.

    `queueing_lock` is how a run's job is found again.
    """
    return Job(
        queue=run.label,
        lock=_LOCK.format(run.job_id) if run.job.most_at_once == 1 else None,
        queueing_lock=_RUN.format(run.pk),
        task_name=TASK,
        task_kwargs={"run_id": run.pk},
        scheduled_at=run.not_before,
    )


@contextlib.contextmanager
def _unless_another_has_dealt_with_it() -> Iterator[None]:
    """Change a job that was looked for before; procrastinate's functions raise where it is gone, or is no longer held.

    So may the job of a dead runner be, which the leader and the runner that follows it both look for.
    """
    try:
        with transaction.atomic(), _as_django_errors():
            yield
    except OperationalError as error:
        if not isinstance(error.__cause__, RaiseException):
            raise


@contextlib.contextmanager
def _as_django_errors() -> Iterator[None]:
    try:
        yield
    except ConnectorException as error:
        raise OperationalError(*(error.__cause__ or error).args) from error.__cause__
