"""The summary on a job's page: its runs, success rate and durations. It refreshes in place."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser, User

from jobs import queries, services
from jobs.execution import queue_reasons
from jobs.execution.ansi import plain_text
from jobs.models import FAILURES, Job, JobRun, JobState, State
from ops import charts

_RUNS_COUNTED, _BARS, _RUNS_LISTED = 100, 60, 10
_COUNTED = (State.SUCCESS, *FAILURES)


def context(job: Job, user: User | AnonymousUser) -> dict[str, Any]:
    """Its last runs as bars and as a list, how many succeeded, how long they took, what the last one printed."""
    newest = list(JobRun.objects.filter(job=job).defer("definition").order_by("-id")[:_RUNS_COUNTED])
    active = next((run for run in newest if run.is_active), None)
    listed = newest[:_RUNS_LISTED]
    for run in newest:
        run.job = job
    waits_for = queue_reasons.for_runs(filter(None, {active, *listed}))
    over = [run for run in newest if run.state in _COUNTED]
    state = JobState.objects.filter(name=job.name).first() or JobState(name=job.name)
    durations = sorted(run.duration for run in over if run.duration is not None)
    bars = [charts.as_bar(run.pk, run.state, run.duration, run.queued_at) for run in reversed(newest[:_BARS])]
    return {
        "job": job,
        "may_change": user.has_perm("jobs.change_job"),
        "state": state,
        "pause": services.pause(),
        "hold": queries.hold(),
        "active": active,
        "strip": charts.run_strip(bars, _BARS),
        "counted": len(over),
        "rate": round(100 * sum(run.state == State.SUCCESS for run in over) / len(over)) if over else None,
        "median": durations[len(durations) // 2] if durations else None,
        "longest": durations[-1] if durations else None,
        "newest": newest[0] if newest else None,
        "runs": [(run, waits_for.get(run.pk)) for run in listed],
        "active_waits_for": waits_for.get(active.pk) if active else None,
        "last_output": plain_text(state.last_output or ""),
    }
