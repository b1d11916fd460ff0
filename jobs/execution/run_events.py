"""Appending what happens to runs to the feed of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from events import services as feed
from jobs.models import JobRun, State

_FIELDS = (
    *("state", "trigger", "requested_by", "scheduled_for", "attempt"),
    *("exit_code", "signal", "duration", "note"),
)
_TYPES = {
    State.QUEUED: "run.queued",
    State.RUNNING: "run.started",
    State.ABORTED: "run.aborted",
    State.LOST: "run.lost",
}


def append_run_event(run: JobRun, *, actor: str | None = None, **changes: Any) -> None:
    """Append the state that a run has got, within the transaction; `changes` are columns that it has by then."""
    feed.append_all([_event(run, actor, changes)])


def append_run_events(runs: Iterable[JobRun], *, actor: str | None = None) -> None:
    """Append the states of runs, as they are now."""
    feed.append_all(_event(run, actor, {}) for run in runs)


def _event(run: JobRun, actor: str | None, changes: Mapping[str, Any]) -> feed.NewEvent:
    fields = {name: changes.get(name, getattr(run, name)) for name in _FIELDS}
    data = {"run_id": run.pk, "job": run.job.name, "retry_of": run.retry_of_id, **fields}
    return feed.NewEvent(_TYPES.get(State(data["state"]), "run.ended"), f"run {run.pk}", data, actor or None)
