"""The queue of one daemon: its runs are the rows that are ready, whatever they run on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from core.timestamps import utc_now
from jobs.execution.queues import RunQueue, Source
from jobs.models import JobRun, State


class EmbeddedQueue(RunQueue):
    """A queued row is all that it takes: the daemon notices each commit."""

    def source(self, labels: Sequence[str], slots: int, wake: Callable[[], object]) -> Source:
        return ReadyRows()


class ReadyRows(Source):
    """The rows that are ready, in their order, but for those of jobs that have no place."""

    def has_runs(self) -> bool:
        return JobRun.objects.ready(utc_now()).exists()

    def runs(self, running_of: Counter[int]) -> Iterator[JobRun]:
        full: set[int] = set()
        ready = JobRun.objects.ready(utc_now()).select_related("job")
        while run := ready.exclude(job__in=full).first():
            if running_of[run.job.pk] >= run.job.most_at_once:
                full.add(run.job.pk)
            else:
                yield run

    def leftovers(self) -> list[JobRun]:
        return list(JobRun.objects.select_related("job").filter(state=State.RUNNING).order_by("id"))
