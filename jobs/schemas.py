"""Schemas of the requests and answers about jobs and runs."""

from __future__ import annotations

from ninja import Schema
from pydantic import BaseModel, StrictStr


class NewRun(BaseModel):
    """The body of `POST /api/v1/jobs/{name}/runs`."""

    arguments: list[StrictStr] | None = None


class Message(Schema):
    message: str


class JobShown(Schema):
    description: str
    schedule: str
    enabled: bool
    running: bool
    last_run: str | None
    last_status: str | None
    last_duration: float | None
    run_count: int | None
    fail_count: int | None
    next_run: str | None


class JobDetail(JobShown):
    name: str
    script: str
    concurrency: str
    last_output: str | None


class Firings(Schema):
    job: str
    schedule: str
    description: str
    timezone: str
    next: list[str]


class RunShown(Schema):
    id: int
    job: str
    state: str
    trigger: str
    requested_by: str
    attempt: int
    retry_of: int | None
    arguments: list[str]
    exit_code: int | None
    signal: int | None
    duration: float | None
    note: str
    scheduled_for: str | None
    queued_at: str | None
    not_before: str | None
    started_at: str | None
    ended_at: str | None
    output_bytes: int
    node: str
    abort_requested_by: str | None
    waits_for: str | None


class OutputShown(Schema):
    run: int
    state: str
    offset: int
    skipped: int
    next_offset: int
    text: str
    complete: bool


class Pause(Schema):
    paused: bool
