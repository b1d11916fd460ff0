"""Follow a run from a terminal: its output as it grows, until it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from core.errors import Unavailable
from jobs import queries
from jobs.execution import output, queue_reasons
from jobs.models import ACTIVE, JobRun, State

_POLL_SECONDS = 0.1
_CHUNK = 256 * 1024


def wait_for_end(
    run: JobRun, show: Callable[[str], object] | None = None, tell: Callable[[str], object] | None = None
) -> JobRun:
    """Return the run when it is over; `show` gets its output meanwhile, `tell` what it waits for before it starts.

    Raises Unavailable without a daemon.
    """
    offset, told = 0, queue_reasons.NEXT_LOOK
    while True:
        run.refresh_from_db()  # before the output is read: what a run that is over wrote is all there
        if show:
            offset = show_from(run, offset, show)
        if run.state not in ACTIVE:
            return run
        if not queries.daemon_is_alive():
            raise Unavailable(
                f"run {run.pk} is {run.state}, but the daemon is not running: start it (make run, manage.py daemon)"
                + (", and the run follows" if run.state == State.QUEUED else ", and it settles the run")
            )
        reason = queue_reasons.for_run(run)
        if tell and reason and reason not in (told, queue_reasons.NEXT_LOOK):
            tell(f"Run {run.pk} is queued; it waits for {reason}.")
            told = reason
        time.sleep(_POLL_SECONDS)


def show_from(run: JobRun, offset: int, show: Callable[[str], object]) -> int:
    """Show all output there is from an offset on; returns where to go on."""
    while True:
        chunk = output.read(run.pk, offset, _CHUNK)
        if chunk.skipped:
            show(f"\n[{chunk.skipped} bytes left out]\n")
        more = run.state in ACTIVE or len(chunk.data) == _CHUNK
        text, used = output.whole_characters(chunk.data, more=more)
        if not used:
            return offset
        show(text)
        offset = chunk.next_offset - (len(chunk.data) - used)
