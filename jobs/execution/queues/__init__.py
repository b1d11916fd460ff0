"""Where runners get runs from: from the rows, or, on PostgreSQL, from procrastinate. `queue()` chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from django.utils.module_loading import import_string

from core.database.backend import is_postgres
from jobs.models import JobRun

_EMBEDDED = "jobs.execution.queues.embedded.EmbeddedQueue"
_DISTRIBUTED = "jobs.execution.queues.distributed.DistributedQueue"  # it needs procrastinate


class Source(Protocol):
    """The runs that one runner may start. As it is here, nothing is fetched: there is nothing to hand back."""

    def start(self) -> None:
        """Begin to look for runs."""
        return

    def has_fetched(self) -> bool:
        """Return whether some wait that no commit tells of. It is asked all the time."""
        return False

    def has_runs(self) -> bool:
        """Return whether there may be some now."""

    def runs(self, running_of: Counter[int]) -> Iterator[JobRun]:
        """Yield runs, each as soon as it may start; `running_of` counts what this runner executes, by job."""

    def counts_others(self) -> bool:
        """Return whether other runners execute runs of the same jobs."""
        return False

    def started(self, run_id: int) -> None:
        """Take note that this runner executes a run."""
        return

    def not_started(self, run: JobRun) -> None:
        """Take a run back that was not started after all."""
        return

    def finished(self, run_id: int) -> None:
        """Take note that the end of a run is recorded."""
        return

    def leftovers(self) -> list[JobRun]:
        """Return running runs that an earlier process of this machine left, which nobody executes any more."""

    def stop(self) -> None:
        """Look for no more runs, and hand back those that were not started."""
        return

    def close(self, deadline: float) -> None:
        """Wait for what was handed back, until the monotonic deadline."""
        return


class RunQueue(Protocol):
    """How runs that are queued reach runners. Its calls belong into the transaction that writes the rows.

    The rows are enough where one daemon notices each commit.
    """

    def offer(self, runs: Sequence[JobRun]) -> None:
        """Offer runs that have just been queued, or queued again."""
        return

    def withdraw(self, run_ids: Sequence[int]) -> None:
        """Take runs back that are queued no longer."""
        return

    def close(self, run_id: int) -> None:
        """Let go of a run whose runner died, once its end is recorded."""
        return

    def mend(self) -> None:
        """Offer again what the death of a runner left behind."""
        return

    def source(self, labels: Sequence[str], slots: int, wake: Callable[[], object]) -> Source:
        """Return the runs for a runner that serves these labels, so many at a time; `wake` is called when one comes."""


def queue() -> RunQueue:
    """Return the queue that goes with the database."""
    made: Any = import_string(_DISTRIBUTED if is_postgres() else _EMBEDDED)
    queue: RunQueue = made()
    return queue
