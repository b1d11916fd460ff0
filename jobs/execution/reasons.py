"""Why a run failed, in one line: how its script ended, and the last words that it printed."""

from __future__ import annotations

from collections.abc import Iterable

from core.text import one_line
from jobs.execution import output
from jobs.execution.ansi import plain_text
from jobs.models import FAILURES, JobRun, State

_TAIL_BYTES = 8192
_MOST_CHARACTERS = 200
_SEPARATOR = " · "
_COMMANDS = ("::endgroup::", "::group::")
_ERROR = "::error::"


def ended(run: JobRun) -> str:
    """Return how the script ended: `exit 3`, `signal 9`; empty when it did not run to an end."""
    if run.signal is not None:
        return f"signal {run.signal}"
    return "" if run.exit_code is None else f"exit {run.exit_code}"


def by_run(runs: Iterable[JobRun]) -> dict[int, str]:
    """Return `exit 3 · cannot open /data/yesterday.csv` of a run that failed; its note where it has one.

    Output is asked for once for all of them.
    """
    listed = list(runs)
    tails = output.tails([run.pk for run in listed if run.state in FAILURES and not run.note], _TAIL_BYTES)
    return {run.pk: _reason(run, tails.get(run.pk, b"")) for run in listed}


def of_ending(run_id: int, exit_code: int | None, note: str) -> str:
    """Return the reason for the note of a run that ends now; `note` stands where there is no exit code."""
    return _joined(f"exit {exit_code}" if exit_code is not None else "", note, last_line(run_id))


def last_line(run_id: int) -> str:
    """Return the last line of output that says something; empty where there is none."""
    return _last_line(output.tail(run_id, _TAIL_BYTES)[0])


def _reason(run: JobRun, tail: bytes) -> str:
    if run.state not in FAILURES or _SEPARATOR in run.note:
        return run.note
    what = ended(run) if run.state == State.FAILED else str(run.state)
    return run.note if what and what in run.note else _joined(what, run.note or _last_line(tail))


def _last_line(data: bytes) -> str:
    for line in reversed(plain_text(data.decode(errors="replace")).splitlines()):
        text = " ".join(one_line(line).split()).removeprefix(_ERROR)
        if text and not text.startswith(_COMMANDS):
            return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
    return ""


def _joined(*parts: str) -> str:
    return _SEPARATOR.join(filter(None, parts))
