"""The runs of runners that died: settled as lost, so that their jobs' rules for retries apply. The leader does it."""

from __future__ import annotations

import logging
import time

from django.db import transaction

from jobs.execution import output, runs
from jobs.execution.queues import queue
from jobs.execution.runs import Ending
from jobs.models import JobRun, Node, State

log = logging.getLogger(__name__)
# Longer than nodes take to beat again after the database was away for all of them.
_GRACE_SECONDS = 8.0
_MEND_SECONDS = 15.0
_LONGEST_GAP_SECONDS = 5.0


class DeadRunners:
    """Looks for runs that nobody executes any more.

    A node is dead when it has not beaten for a while, by the database's clock, and still has not after a grace period,
    by ours. A look that comes late counts as the first one: we were away ourselves.
    """

    def __init__(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        self._missed_since: dict[int, float] = {}  # by run
        self._looked = self._mended = 0.0

    def tick(self) -> bool:
        now = time.monotonic()
        if now - self._looked > _LONGEST_GAP_SECONDS:
            self._missed_since.clear()
        missed = _runs_of_nobody()
        self._missed_since = {run.pk: self._missed_since.get(run.pk, now) for run in missed}
        for run in missed:
            if now - self._missed_since[run.pk] >= self._grace_seconds:
                _settle(run)
        self._looked = time.monotonic()
        if now - self._mended >= _MEND_SECONDS:
            self._mended = now
            queue().mend()
        return False


def _runs_of_nobody() -> list[JobRun]:
    """Return running runs whose node does not beat."""
    running = list(JobRun.objects.select_related("job").filter(state=State.RUNNING).order_by("id"))
    if not running:
        return []
    alive = set(Node.objects.alive().values_list("pk", flat=True))
    return [run for run in running if run.node_row not in alive]


def _settle(run: JobRun) -> None:
    runner = f"its runner {run.node}" if run.node else "its runner"
    kept = output.size_on_disk(run.pk)
    with transaction.atomic():
        still = JobRun.objects.filter(pk=run.pk, state=State.RUNNING, node_row=run.node_row).exists()
        if not still or Node.objects.alive().filter(pk=run.node_row or 0).exists():
            return  # it came back while this waited for other writers
        runs.record_end(run, Ending(State.LOST, f"{runner} died while it ran", output_bytes=kept))
    log.warning("run %s of job %s is lost: %s died while it ran", run.pk, run.job.name, runner)
    queue().close(run.pk)
