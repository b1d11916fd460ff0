"""Why a run failed, in one line: how it ended, and what it said last."""

from __future__ import annotations

from core.text import one_line
from jobs.execution import output
from jobs.execution.ansi import plain_text
from jobs.models import FAILURES, JobRun, State

_TAIL_BYTES = 4096
_MOST_CHARACTERS = 160


def ended(run: JobRun) -> str:
    """Return how the script ended: `exit 3`, `signal 9`; empty when it did not run to an end."""
    if run.signal is not None:
        return f"signal {run.signal}"
    return "" if run.exit_code is None else f"exit {run.exit_code}"


def reason(run: JobRun) -> str:
    """Return `exit 3 · cannot open /data/yesterday.csv` of a run that failed; its note where it has one."""
    if run.state not in FAILURES:
        return run.note
    what = ended(run) if run.state == State.FAILED else str(run.state)
    return " · ".join(filter(None, (what, run.note or last_line(run))))


def last_line(run: JobRun) -> str:
    """Return the last line with something on it that a run printed."""
    data, _ = output.tail(run.pk, _TAIL_BYTES)
    lines = [line for line in plain_text(data.decode(errors="replace")).splitlines() if line.strip()]
    return one_line(lines[-1].strip())[:_MOST_CHARACTERS] if lines else ""
