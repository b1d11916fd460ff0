"""Who is told of what, once, and what becomes of alerts that can't be sent."""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.db import transaction

from core.timestamps import utc_now
from jobs import services
from jobs.alerts import delivery, rules
from jobs.alerts.delivery import AlertSender, PingSender
from jobs.alerts.rules import Watch
from jobs.execution import runs
from jobs.execution.runs import Ending, Process
from jobs.models import Alert, Daemon, Job, JobRun, Ping, State, Trigger
from tests.support.receiver import Receiver, receiver

pytestmark = pytest.mark.django_db
PROCESS = Process(1, 1, "a boot")


@pytest.fixture
def place() -> Iterator[Receiver]:
    with receiver() as told:
        yield told


@pytest.fixture
def job(settings: LazySettings, place: Receiver) -> Job:
    """Its alerts go to the place, under a path that is a secret."""
    settings.ALERT_URLS = ()
    url = f"json://127.0.0.1:{place.port}/a-secret-path"
    return define("nightly", alert_urls=url)


def define(name: str, **fields: Any) -> Job:
    return services.define_job(fields={"name": name, "script": "hello.py", "schedule": "@daily", **fields}, actor="t")


def run_to(job: Job, *states: str, duration: float = 1.0) -> None:
    """Runs of the job that start and end so."""
    for state in states:
        run = start(job)
        runs.record_end(run, Ending(state, exit_code=0 if state == State.SUCCESS else 1, duration=duration))


def start(job: Job) -> JobRun:
    run = runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="t")
    assert runs.record_start(run, PROCESS)
    run.refresh_from_db()
    return run


def kinds() -> list[str]:
    return list(Alert.objects.order_by("id").values_list("kind", flat=True))


def test_a_failure_and_a_recovery_are_told_once_each(job: Job) -> None:
    run_to(job, State.SUCCESS, State.FAILED, State.FAILED, State.TIMEOUT, State.SUCCESS, State.SUCCESS)
    assert kinds() == ["failing", "recovered"]


def test_a_failure_is_told_after_as_many_in_a_row_as_the_job_wants(job: Job) -> None:
    job.alert_after_failures = 3
    services.save_job(job, actor="t")
    run_to(job, State.FAILED, State.FAILED, State.SUCCESS, State.FAILED, State.FAILED)
    assert kinds() == []
    run_to(job, State.ERROR)
    assert kinds() == ["failing"]


def test_an_abort_is_neither_a_failure_nor_a_recovery(job: Job) -> None:
    run_to(job, State.FAILED, State.ABORTED, State.FAILED)
    assert kinds() == ["failing"]


def test_a_job_that_is_edited_while_it_fails_is_not_told_again(job: Job) -> None:
    stale = Job.objects.get(pk=job.pk)
    run_to(job, State.FAILED)
    stale.description = "edited on a page that was opened before"
    services.save_job(stale, actor="t")
    run_to(job, State.FAILED)
    assert kinds() == ["failing"]


def test_global_and_own_places_are_each_told_once(job: Job, settings: LazySettings) -> None:
    settings.ALERT_URLS = ("discord://id/token", job.alert_urls)
    run_to(job, State.FAILED)
    assert sorted(Alert.objects.values_list("destination", flat=True)) == ["discord://…", "json://127.0.0.1/…"]


def test_without_a_place_there_is_no_alert(settings: LazySettings) -> None:
    settings.ALERT_URLS = ()
    run_to(define("quiet"), State.FAILED, State.SUCCESS)
    assert kinds() == []


def test_a_run_that_waits_too_long_is_told_once_until_one_starts_in_time(job: Job) -> None:
    job.late_after_seconds = 60
    services.save_job(job, actor="t")
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        waiting = runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="t")
        clock.shift(59)
        Watch().tick()
        assert kinds() == []
        clock.shift(2)
        Watch().tick()
        Watch().tick()
        assert kinds() == ["late"]
        runs.record_start(waiting, PROCESS)
        waiting.refresh_from_db()
        runs.record_end(waiting, Ending(State.SUCCESS, duration=1.0))
        assert kinds() == ["late"]
        run_to(job, State.SUCCESS)
        runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="t")
        clock.shift(61)
        Watch().tick()
    assert kinds() == ["late", "late"]


def test_a_run_that_waits_because_starts_are_paused_is_not_late(job: Job) -> None:
    job.late_after_seconds = 60
    services.save_job(job, actor="t")
    services.set_paused(paused=True, actor="t")
    with time_machine.travel(utc_now(), tick=False) as clock:
        runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="t")
        clock.shift(3600)
        Watch().tick()
    assert kinds() == []


def test_a_run_that_takes_too_long_is_told_once_while_it_runs(job: Job) -> None:
    job.long_after_seconds = 10
    services.save_job(job, actor="t")
    with time_machine.travel(utc_now(), tick=False) as clock:
        run = start(job)
        clock.shift(11)
        Watch().tick()
        Watch().tick()
        runs.record_end(run, Ending(State.SUCCESS, duration=11.0))
    assert kinds() == ["long"]
    run_to(job, State.SUCCESS, duration=12.0)
    assert kinds() == ["long"]
    run_to(job, State.SUCCESS, duration=1.0)
    run_to(job, State.SUCCESS, duration=12.0)
    assert kinds() == ["long", "long"]


@pytest.mark.parametrize(("seconds", "told"), [(59, []), (3600, ["daemon-down"])])
def test_a_daemon_that_was_down_for_long_is_told_when_one_starts(
    settings: LazySettings, seconds: int, told: list[str]
) -> None:
    settings.ALERT_URLS = ("json://127.0.0.1:9/",)
    now = utc_now()
    Daemon.objects.create(pk=Daemon.PK, pid=1, beat_at=now - timedelta(seconds=seconds))
    with transaction.atomic():
        rules.on_daemon_start(now)
    assert kinds() == told


def test_an_alert_reaches_its_place(job: Job, place: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    run_to(job, State.FAILED)
    AlertSender().tick()
    assert place.paths == ["/a-secret-path"]
    sent = json.loads(place.bodies[0])
    assert sent["title"] == "[prod] nightly fails"
    assert sent["type"] == "failure"
    assert Alert.objects.get().state == "sent"
    AlertSender().tick()
    assert len(place.paths) == 1
    assert "a-secret-path" not in caplog.text


@pytest.mark.parametrize("status", [302, 307, 308])
def test_an_alert_goes_to_no_place_that_its_receiver_names(job: Job, place: Receiver, status: int) -> None:
    with receiver() as elsewhere:  # such as lobwife's own API, for which the sender is a local program
        place.status, place.location = status, f"http://127.0.0.1:{elsewhere.port}/api/v1/runs/pause"
        run_to(job, State.FAILED)
        AlertSender().tick()
    assert (place.paths, elsewhere.paths) == (["/a-secret-path"], [])
    assert Alert.objects.get().error == f"the destination answered {status}"


def test_an_alert_that_is_refused_is_tried_again_with_growing_pauses_until_it_is_sent(
    job: Job, place: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    place.status = 503
    with time_machine.travel(utc_now(), tick=False) as clock:
        run_to(job, State.FAILED)
        pauses = []
        for _ in range(2):
            AlertSender().tick()
            AlertSender().tick()  # not due: nothing is sent
            alert = Alert.objects.get()
            pauses.append((alert.next_attempt_at - utc_now()).total_seconds())
            clock.shift(pauses[-1])
        assert pauses == [10, 20]
        assert (alert.state, alert.attempts, alert.error) == ("pending", 2, "the destination answered 503")
        AlertSender().tick()
        clock.shift(-86_400)
        place.status = 200
        AlertSender().tick()  # a clock that was set back puts nothing off by as much
    assert Alert.objects.get().state == "sent"
    assert len(place.paths) == 4
    assert "a-secret-path" not in caplog.text


def test_a_place_that_can_t_be_reached_or_understood_holds_up_no_other(job: Job, place: Receiver) -> None:
    job.alert_urls = f"json://127.0.0.1:1/a-secret\nnonsense://another-secret\n{job.alert_urls}"
    services.save_job(job, actor="t")
    run_to(job, State.FAILED)
    AlertSender().tick()
    rows = Alert.objects.order_by("id").values_list("state", "error")
    assert list(rows) == [
        ("pending", "the destination could not be reached, or refused it"),
        ("pending", "apprise does not understand the URL"),
        ("sent", ""),
    ]


def test_what_was_sent_is_known_though_the_sender_printed_other_things_and_was_killed(
    job: Job, place: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    job.alert_urls = f"{job.alert_urls}\njson://127.0.0.1:1/never"
    services.save_job(job, actor="t")
    run_to(job, State.FAILED)
    first = Alert.objects.order_by("pk")[0]
    program = tmp_path / "sender.py"
    program.write_text(
        f"""print("a plugin says hello")\nprint('{{"id": {first.pk}, "error": ""}}\\n{{"id": 99', end="")"""
    )
    monkeypatch.setattr(delivery, "_PROGRAM", str(program))
    AlertSender().tick()
    states = Alert.objects.order_by("pk").values_list("state", "error")
    assert list(states) == [("sent", ""), ("pending", "not sent within 60 s")]


def test_an_alert_whose_place_is_no_longer_configured_is_dropped_and_says_so(job: Job, place: Receiver) -> None:
    run_to(job, State.FAILED)
    job.alert_urls = ""
    services.save_job(Job.objects.get(pk=job.pk), actor="t")
    Job.objects.filter(pk=job.pk).update(alert_urls="")
    AlertSender().tick()
    alert = Alert.objects.get()
    assert (alert.state, alert.error) == ("dropped", "its destination is no longer configured")
    assert place.paths == []


def test_a_watchdog_is_told_of_start_success_and_failure_in_order(place: Receiver) -> None:
    job = define("watched", ping_url=f"http://127.0.0.1:{place.port}/uuid")
    run_to(job, State.SUCCESS, State.FAILED, State.ABORTED)
    assert place.paths == []
    sender = PingSender()
    while sender.tick():
        pass
    assert place.paths == ["/uuid/start", "/uuid", "/uuid/start", "/uuid/fail", "/uuid/start", "/uuid/fail"]
    assert not Ping.objects.exists()


def test_a_watchdog_that_was_away_is_told_of_a_start_before_its_end(place: Receiver) -> None:
    job = define("watched", ping_url=f"http://127.0.0.1:{place.port}/uuid")
    place.status = 500
    with time_machine.travel(utc_now(), tick=False) as clock:
        run = start(job)
        assert PingSender().tick()
        place.status = 200
        clock.shift(1)
        runs.record_end(run, Ending(State.SUCCESS, exit_code=0, duration=1.0))
        assert not PingSender().tick()
        clock.shift(4)
        while PingSender().tick():
            pass
    assert place.paths == ["/uuid/start", "/uuid/start", "/uuid"]


def test_a_watchdog_that_fails_is_called_again_and_given_up_after_an_hour(
    place: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    job = define("watched", ping_url=f"http://127.0.0.1:{place.port}/uuid")
    place.status = 500
    with time_machine.travel(utc_now(), tick=False) as clock:
        run_to(job, State.SUCCESS)
        while PingSender().tick():
            pass
        assert place.paths == ["/uuid/start"], "the next one waits behind it"
        clock.shift(5)
        place.status = 200
        while PingSender().tick():
            pass
        assert place.paths == ["/uuid/start", "/uuid/start", "/uuid"]
        place.status = 500
        run_to(job, State.SUCCESS)
        clock.shift(3601)
        while PingSender().tick():
            pass
    assert not Ping.objects.exists()
    assert "uuid" not in caplog.text
