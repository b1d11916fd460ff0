"""REST routes of jobs and runs: the contract's, and those under /api/v1."""

from __future__ import annotations

import re
from dataclasses import asdict

from django.http import HttpRequest, HttpResponse
from ninja import Router

from core.callers import caller_of
from core.errors import Invalid, NotFound
from core.rest import Problem, integer_parameter, json_body, json_response, query_parameter, request_body, validate
from core.timestamps import utc_now
from jobs import queries, services, time_range
from jobs.execution import output, runs
from jobs.models import State, Trigger
from jobs.scheduling import cron
from jobs.schemas import Firings, JobDetail, JobShown, Message, NewRun, OutputShown, Pause, RunShown

router = Router(tags=["jobs"])
v1 = Router(tags=["runs"])
_MOMENT = "A time such as 2026-02-16T22:00 (UTC), or an age such as 24h or 7d."
_RUN_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


@router.get("/jobs", response={200: dict[str, JobShown], 503: Problem})
def list_jobs(request: HttpRequest) -> HttpResponse:
    """All jobs by name, in the order they were defined."""
    return json_response(queries.job_list())


@router.get("/jobs/{name}", response={200: JobDetail, 404: Problem, 503: Problem})
def get_job(request: HttpRequest, name: str) -> HttpResponse:
    """One job with its last output."""
    return json_response(queries.job_detail(name))


@router.post("/jobs/{name}/trigger", response={200: Message, 404: Message, 409: Message, 503: Message})
def trigger_job(request: HttpRequest, name: str) -> HttpResponse:
    """Run a job now, also one that is disabled; without the daemon it runs when that is back."""
    runs.request_run(name=name, trigger=Trigger.REST, requested_by=caller_of(request).identity)
    return json_response({"message": f"Job {name} triggered"})


@router.post("/jobs/{name}/enable", response={200: Message, 404: Message, 503: Message})
def enable_job(request: HttpRequest, name: str) -> HttpResponse:
    """Let a job's schedule run it again; what it missed meanwhile does not run."""
    services.set_enabled(name=name, enabled=True, actor=caller_of(request).identity)
    return json_response({"message": f"Job {name} enabled"})


@router.post("/jobs/{name}/disable", response={200: Message, 404: Message, 503: Message})
def disable_job(request: HttpRequest, name: str) -> HttpResponse:
    """Keep a job's schedule from running it; it can still be triggered."""
    services.set_enabled(name=name, enabled=False, actor=caller_of(request).identity)
    return json_response({"message": f"Job {name} disabled"})


@v1.get(
    "/jobs/{name}/next",
    response={200: Firings, 400: Problem, 404: Problem, 503: Problem},
    openapi_extra={"parameters": [{"in": "query", "name": "count", "schema": {"type": "integer", "default": 10}}]},
)
def next_firings(request: HttpRequest, name: str) -> HttpResponse:
    """List when a job's schedule fires next, whether it is enabled or not; at most 100."""
    job = services.get_job(name)
    count = min(integer_parameter(request, "count", 10), 100)
    about = {"job": job.name, "schedule": job.schedule, "description": cron.describe(job.schedule)}
    return json_response({**about, "timezone": job.timezone, "next": queries.next_firings(job, count)})


@v1.post(
    "/jobs/{name}/runs",
    response={201: RunShown, 400: Problem, 404: Problem, 409: Problem, 413: Problem, 503: Problem},
    openapi_extra=request_body(NewRun),
)
def create_run(request: HttpRequest, name: str) -> HttpResponse:
    """Run a job now, with other arguments if any are sent."""
    body = validate(NewRun, json_body(request, or_empty=True))
    run = runs.request_run(
        name=name, trigger=Trigger.REST, requested_by=str(caller_of(request)), arguments=body.arguments
    )
    return json_response(queries.run_as_json(run), 201)


@v1.get(
    "/runs",
    response={200: list[RunShown], 400: Problem, 503: Problem},
    openapi_extra={
        "parameters": [
            {"in": "query", "name": "job", "schema": {"type": "string"}},
            {"in": "query", "name": "state", "schema": {"type": "string", "enum": State.values}},
            {"in": "query", "name": "since", "schema": {"type": "string"}, "description": _MOMENT},
            {"in": "query", "name": "until", "schema": {"type": "string"}, "description": _MOMENT},
            {"in": "query", "name": "before_id", "schema": {"type": "integer", "minimum": 1}},
            {"in": "query", "name": "limit", "schema": {"type": "integer", "minimum": 0, "default": 50}},
        ]
    },
)
def list_runs(request: HttpRequest) -> HttpResponse:
    """Runs, newest first; `before_id` pages; at most 500. `since` and `until` are about when they were asked for."""
    state = query_parameter(request, "state")
    if state is not None and state not in State.values:
        raise Invalid(f"state must be one of {', '.join(State.values)}")
    before = integer_parameter(request, "before_id", 0) or None
    limit = integer_parameter(request, "limit", queries.RUNS_SHOWN)
    now = utc_now()
    since, until = (time_range.moment(query_parameter(request, name), name, now) for name in ("since", "until"))
    job = query_parameter(request, "job")
    return json_response(
        queries.run_list(job=job, state=state, before_id=before, limit=limit, since=since, until=until)
    )


@v1.post("/runs/pause", response={200: Pause, 503: Problem})
def pause(request: HttpRequest) -> HttpResponse:
    """Start nothing until resumed; what runs goes on."""
    services.set_paused(paused=True, actor=caller_of(request).identity)
    return json_response({"paused": True})


@v1.post("/runs/resume", response={200: Pause, 503: Problem})
def resume(request: HttpRequest) -> HttpResponse:
    """Start again; firings missed while paused follow each job's policy."""
    services.set_paused(paused=False, actor=caller_of(request).identity)
    return json_response({"paused": False})


@v1.get("/runs/{run_id}", response={200: RunShown, 404: Problem, 503: Problem})
def get_run(request: HttpRequest, run_id: str) -> HttpResponse:
    """One run."""
    return json_response(queries.run_as_json(runs.get_run(_run_number(run_id))))


@v1.get(
    "/runs/{run_id}/output",
    response={200: OutputShown, 400: Problem, 404: Problem, 503: Problem},
    openapi_extra={
        "parameters": [{"in": "query", "name": "offset", "schema": {"type": "integer", "minimum": 0, "default": 0}}]
    },
)
def run_output(request: HttpRequest, run_id: str) -> HttpResponse:
    """Output from an offset in bytes on, also while the run goes on: ask again from `next_offset`.

    `skipped` bytes were left out before the text, when the output was over its limit; `complete` says that the run is
    over and nothing follows.
    """
    run = runs.get_run(_run_number(run_id))
    offset = integer_parameter(request, "offset", 0)
    piece = output.read_text(run, offset)
    return json_response({"run": run.pk, "state": run.state, "offset": offset, **asdict(piece)})


@v1.post("/runs/{run_id}/abort", response={200: RunShown, 404: Problem, 409: Problem, 503: Problem})
def abort_run(request: HttpRequest, run_id: str) -> HttpResponse:
    """Ask for a run's end; its state says `aborted` when nothing of it is left."""
    return json_response(queries.run_as_json(runs.abort_run(run_id=_run_number(run_id), actor=str(caller_of(request)))))


@v1.post("/runs/{run_id}/retry", response={201: RunShown, 404: Problem, 409: Problem, 503: Problem})
def retry_run(request: HttpRequest, run_id: str) -> HttpResponse:
    """Run a job again with the arguments of an earlier run."""
    run = runs.retry_run(run_id=_run_number(run_id), requested_by=str(caller_of(request)), trigger=Trigger.REST)
    return json_response(queries.run_as_json(run), 201)


def _run_number(text: str) -> int:
    if not _RUN_NUMBER.fullmatch(text):
        raise NotFound(f"there is no run {text[:100]}")
    return int(text)
