"""A queued run says what it waits for, at every door, in a constant number of queries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from core.timestamps import utc_now
from jobs import queries, services
from jobs.execution import runs
from jobs.execution.runs import Ending, Process
from jobs.models import Daemon, Job, JobRun, State, Trigger

pytestmark = pytest.mark.django_db
# On PostgreSQL runs wait for runners: tests/postgres/test_runners.py.
EMBEDDED = pytest.mark.sqlite("the daemon's own queue of runs")


@pytest.fixture(autouse=True)
def daemon(settings: LazySettings) -> Daemon:
    """Two runs may be active."""
    settings.JOB_MAX_PARALLEL = 2
    return Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now(), "paused_at": None})[0]


def define(name: str, **fields: Any) -> Job:
    return services.define_job(
        fields={"name": name, "script": "hello.py", "schedule": "@yearly", **fields}, actor="a test"
    )


def queue(name: str) -> JobRun:
    return runs.request_run(name=name, trigger=Trigger.REST, requested_by="a test")


def start(name: str) -> JobRun:
    run = queue(name)
    assert runs.record_start(run, Process(1, 1, "boot"))
    return run


def waits_for(run: JobRun) -> str | None:
    shown: str | None = queries.run_as_json(runs.get_run(run.pk))["waits_for"]
    return shown


@EMBEDDED
def test_only_what_is_queued_waits() -> None:
    define("one")
    run = queue("one")
    assert waits_for(run) == "the daemon's next look"
    runs.record_start(run, Process(1, 1, "boot"))
    assert waits_for(run) is None


def test_a_run_waits_for_a_daemon_that_is_down_or_was_before_the_clock_was_set_back(daemon: Daemon) -> None:
    define("one")
    run = queue("one")
    for beat_at, pid in ((utc_now() + timedelta(hours=1), 7), (utc_now() - timedelta(hours=1), 7), (utc_now(), None)):
        Daemon.objects.update(beat_at=beat_at, pid=pid)
        assert waits_for(run) == "the daemon, which is down"
        assert queries.daemon_is_alive() is False


@EMBEDDED
def test_a_retry_is_not_put_off_by_a_clock_that_was_set_back() -> None:
    define("one", retries=1, retry_delay_seconds=600)
    runs.record_end(start("one"), Ending(State.FAILED))
    retry = JobRun.objects.get(trigger=Trigger.RETRY)
    with time_machine.travel(retry.queued_at - timedelta(days=1)):
        Daemon.objects.update(beat_at=utc_now())
        assert waits_for(retry) == "the daemon's next look"
        assert list(JobRun.objects.ready(utc_now())) == [retry]


def test_a_run_waits_for_the_end_of_a_pause_and_for_its_retry() -> None:
    define("one", retries=1, retry_delay_seconds=600)
    runs.record_end(start("one"), Ending(State.FAILED, exit_code=1))
    retry = JobRun.objects.get(trigger=Trigger.RETRY)
    assert waits_for(retry) == f"its retry at {retry.not_before:%Y-%m-%d %H:%M:%S} UTC"
    assert not JobRun.objects.ready(utc_now()).exists()
    services.set_paused(paused=True, actor="olga")
    assert waits_for(retry) == "starts to be resumed; olga paused them"


def test_a_run_waits_for_others_of_its_job() -> None:
    define("one", concurrency="queue")
    first, second = start("one"), queue("one")
    assert waits_for(second) == f"run {first.pk} of this job"
    define("many", concurrency="allow", max_parallel=3)
    several = [start("many"), start("many")]
    Job.objects.filter(name="many").update(max_parallel=2)
    third = JobRun.objects.create(job=several[0].job, trigger=Trigger.REST, queued_at=utc_now())
    assert waits_for(third) == f"one of 2 runs of this job: {several[0].pk}, {several[1].pk}"


@EMBEDDED
def test_a_run_waits_for_a_free_slot_behind_those_that_were_asked_for_before(settings: LazySettings) -> None:
    for name in ("a", "b", "c", "d", "e"):
        define(name)
    start("a"), start("b")
    waiting = [queue("c"), queue("d"), queue("e")]
    assert [waits_for(run) for run in waiting] == [
        "a free slot: 2 of 2 runs are active",
        "a free slot: 2 of 2 runs are active, 1 before it in the queue",
        "a free slot: 2 of 2 runs are active, 2 before it in the queue",
    ]


@EMBEDDED
def test_lists_say_it_in_a_constant_number_of_queries(client: Client) -> None:
    client.force_login(User.objects.create_superuser("olga"))
    for number in range(20):
        define(f"job-{number}")
    start("job-0"), start("job-1")
    asked = []
    for number in range(2, 20):
        queue(f"job-{number}")
        with CaptureQueriesContext(connection) as captured:
            listed = queries.run_list(job=None, state=None, before_id=None, limit=100)
        assert sum("a free slot" in (run["waits_for"] or "") for run in listed) == number - 1
        asked.append(len(captured))
    assert set(asked) == {4}
    newest = JobRun.objects.latest("id")
    told = "waits for a free slot: 2 of 2 runs are active, 17 before it in the queue"
    for page in (
        "/admin/jobs/jobrun/",
        f"/admin/jobs/jobrun/{newest.pk}/change/",
        f"/admin/jobs/jobrun/{newest.pk}/live/",
    ):
        assert told in client.get(page).content.decode(), page
    assert client.get(f"/admin/jobs/job/{newest.job_id}/change/").content.decode().count(told) == 2
