"""What becomes of firings: {never ran, done, running} x {not due, due, paused, past the deadline} x each policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs import services
from jobs.execution import runs
from jobs.execution.runs import Ending
from jobs.models import Concurrency, Job, JobRun, JobState, Misfire, State, Trigger
from jobs.scheduling import cron, due
from tests.support.due import BEFORE, LATE, NOON, ON_TIME, by_hand, made, make, slots

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _only_our_jobs() -> None:
    Job.objects.all().delete()
    JobState.objects.all().delete()


def in_history(job: Job, history: str) -> JobRun | None:
    if history == "never ran":
        return None
    run = by_hand(job)
    if history == "done":
        runs.record_end(run, Ending(State.SUCCESS, duration=0.1))
    return run


TABLE = list(product(("never ran", "done", "running"), Concurrency.values, Misfire.values))


@pytest.mark.parametrize(("history", "concurrency", "misfire"), TABLE)
def test_what_is_not_due_makes_no_run(history: str, concurrency: str, misfire: str) -> None:
    job = make(concurrency=concurrency, misfire=misfire)
    in_history(job, history)
    assert due.enqueue_due(BEFORE) == 0
    assert made(job) == []
    assert due.next_wake(BEFORE) == NOON


@pytest.mark.parametrize(("history", "concurrency", "misfire"), TABLE)
def test_what_is_due_makes_one_run(history: str, concurrency: str, misfire: str) -> None:
    job = make(concurrency=concurrency, misfire=misfire)
    earlier = in_history(job, history)
    assert due.enqueue_due(ON_TIME) == 1
    assert due.enqueue_due(ON_TIME) == 0
    refused = history == "running" and concurrency == "forbid"
    assert slots(job) == [("12:00", "skipped" if refused else "queued")]
    assert made(job)[0].trigger == Trigger.SCHEDULE
    if refused and earlier:
        assert made(job)[0].note == f"run {earlier.pk} was not over"
        assert made(job)[0].ended_at == ON_TIME
    if history == "running" and earlier:
        earlier.refresh_from_db()
        assert (earlier.abort_requested_at is not None) is (concurrency == "replace")
    assert due.next_wake(ON_TIME) == NOON + timedelta(minutes=5)


@pytest.mark.parametrize(("history", "concurrency", "misfire"), TABLE)
def test_what_is_due_while_paused_waits_and_then_follows_the_policy_for_missed_firings(
    history: str, concurrency: str, misfire: str
) -> None:
    job = make(concurrency=concurrency, misfire=misfire)
    in_history(job, history)
    services.set_paused(paused=True, actor="a test")
    assert due.enqueue_due(ON_TIME) == 0
    assert made(job) == []
    assert due.next_wake(ON_TIME) is None
    services.set_paused(paused=False, actor="a test")
    due.enqueue_due(LATE)
    refused = misfire == "skip" or (history == "running" and concurrency == "forbid")
    assert slots(job) == [("12:00", "skipped" if refused else "queued")]
    assert made(job)[0].note.startswith("1 firing missed")
    if not refused:
        assert made(job)[0].trigger == Trigger.CATCH_UP


@pytest.mark.parametrize(("history", "concurrency", "misfire"), TABLE)
def test_what_is_past_its_deadline_is_recorded_as_skipped(history: str, concurrency: str, misfire: str) -> None:
    job = make(concurrency=concurrency, misfire=misfire, start_deadline_seconds=60)
    in_history(job, history)
    due.enqueue_due(LATE)
    assert slots(job) == [("12:00", "skipped")]
    assert made(job)[0].note.startswith("1 firing missed; ")


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [("skip", [("11:55", "skipped")]), ("once", [("11:55", "queued")])],
)
def test_a_week_down_makes_one_row_with_a_note_of_how_many_were_missed(
    misfire: str, expected: list[tuple[str, str]]
) -> None:
    now = NOON - timedelta(minutes=2)
    job = make(misfire=misfire, settled=now - timedelta(days=7))
    due.enqueue_due(now)
    assert slots(job) == expected
    assert made(job)[0].note.startswith("2016 firings missed")


def test_all_runs_the_newest_of_what_was_missed_up_to_its_maximum_and_then_the_firing_of_now() -> None:
    job = make(misfire="all", misfire_max=3, settled=NOON - timedelta(days=7))
    due.enqueue_due(ON_TIME)
    assert slots(job) == [(text, "queued") for text in ("11:45", "11:50", "11:55", "12:00")]
    assert [run.trigger for run in made(job)] == [*[Trigger.CATCH_UP] * 3, Trigger.SCHEDULE]


def test_once_does_not_run_beside_the_firing_of_now_which_tells_what_was_missed() -> None:
    job = make(settled=NOON - timedelta(hours=1))
    due.enqueue_due(ON_TIME)
    assert slots(job) == [("12:00", "queued")]
    assert made(job)[0].note == "11 firings missed"


def test_a_disabled_job_fires_nothing_and_enabling_never_runs_what_was_missed() -> None:
    job = make()
    services.set_enabled(name=job.name, enabled=False, actor="a test")
    due.enqueue_due(LATE)
    services.set_enabled(name=job.name, enabled=True, actor="a test")
    due.enqueue_due(LATE)
    assert made(job) == []


def test_a_job_that_is_disabled_while_its_firing_is_worked_out_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    job = make()
    count = cron.count_between

    def disabled_meanwhile(*arguments: Any) -> int:
        services.set_enabled(name=job.name, enabled=False, actor="a test")
        return count(*arguments)

    monkeypatch.setattr(cron, "count_between", disabled_meanwhile)
    due.enqueue_due(ON_TIME)
    monkeypatch.undo()
    assert due.next_wake(ON_TIME) == NOON, "it is looked at again at once"
    due.enqueue_due(ON_TIME)
    assert slots(job) == []
    assert due.next_wake(ON_TIME) == NOON + timedelta(minutes=5)


def test_enabling_by_hand_while_the_daemon_works_runs_nothing_that_was_missed() -> None:
    job = make()
    JobState.objects.filter(name=job.name).update(enabled=False)
    due.enqueue_due(LATE)
    JobState.objects.filter(name=job.name).update(enabled=True)
    due.enqueue_due(LATE + timedelta(minutes=1))
    assert made(job) == []
    due.enqueue_due(NOON + timedelta(minutes=5))
    assert slots(job) == [("12:05", "queued")]


def test_a_job_enabled_after_a_week_without_the_daemon_runs_nothing_of_that_week() -> None:
    job = make(settled=ON_TIME - timedelta(days=7))
    JobState.objects.filter(name=job.name).update(enabled=False)
    with time_machine.travel(ON_TIME, tick=False):
        services.set_enabled(name=job.name, enabled=True, actor="a test")
        due.enqueue_due()
    assert made(job) == []


def test_a_job_that_the_daemon_has_not_seen_fires_from_now_on() -> None:
    job = make(settled=None)
    assert due.next_wake(LATE) == LATE
    due.enqueue_due(LATE)
    assert made(job) == []
    assert due.next_wake(LATE) == NOON + timedelta(minutes=5)


def test_a_changed_schedule_counts_from_the_change() -> None:
    job = make(settled=ON_TIME - timedelta(days=1))
    job = Job.objects.get(pk=job.pk)
    job.schedule = "* * * * *"
    with time_machine.travel(ON_TIME, tick=False):
        services.save_job(job, actor="a test")
        due.enqueue_due(ON_TIME)
    assert made(job) == []


def test_a_clock_that_is_set_back_repeats_no_slot() -> None:
    job = make()
    for minutes in (0, 5, 10):
        due.enqueue_due(NOON + timedelta(minutes=minutes, seconds=1))
        JobRun.objects.active().update(state=State.SUCCESS)
    expected = slots(job)
    assert due.next_wake(BEFORE) == BEFORE, "the step is noticed"
    due.enqueue_due(BEFORE)
    for minutes in (0, 5, 10):
        due.enqueue_due(NOON + timedelta(minutes=minutes, seconds=1))
    assert slots(job) == expected
    due.enqueue_due(NOON + timedelta(minutes=15, seconds=1))
    assert slots(job) == [*expected, ("12:15", "queued")]


def test_a_clock_that_is_set_back_by_a_year_does_not_stop_a_job() -> None:
    job = make(settled=NOON + timedelta(days=365))
    due.enqueue_due(BEFORE)
    due.enqueue_due(ON_TIME)
    assert slots(job) == [("12:00", "queued")]


def test_a_clock_that_is_set_forward_is_a_missed_firing() -> None:
    job = make()
    due.enqueue_due(NOON + timedelta(hours=2, minutes=2))
    assert slots(job) == [("14:00", "queued")]
    assert (made(job)[0].trigger, made(job)[0].note) == (Trigger.CATCH_UP, "25 firings missed")


def test_a_firing_of_the_repeated_hour_is_not_lost_when_it_is_settled_in_its_second_pass() -> None:
    first_pass = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    job = make(schedule="30 2 * * *", timezone="Europe/Berlin", settled=first_pass - timedelta(hours=20))
    Job.objects.filter(pk=job.pk).update(next_firing=first_pass)
    due.enqueue_due(first_pass + timedelta(minutes=40))
    assert [run.scheduled_for for run in made(job)] == [first_pass]
    due.enqueue_due(first_pass + timedelta(hours=1, seconds=1))
    assert len(made(job)) == 1


def test_a_schedule_that_was_broken_by_hand_stops_that_job_alone() -> None:
    broken, ahead, fine = make("broken"), make("ahead", settled=NOON + timedelta(days=9)), make("fine")
    Job.objects.filter(pk__in=[broken.pk, ahead.pk]).update(schedule="whenever")
    due.enqueue_due(ON_TIME)
    assert slots(fine) == [("12:00", "queued")]
    assert made(broken) == made(ahead) == []


def test_two_thousand_jobs_cost_a_constant_number_of_statements_for_each_batch() -> None:
    state = [JobState(name=f"job-{number}") for number in range(2_000)]
    jobs = [
        Job(name=each.name, script="hello.py", schedule="*/5 * * * *", settled_through=BEFORE, next_firing=NOON)
        for each in state
    ]
    Job.objects.bulk_create(jobs)
    JobState.objects.bulk_create(state)
    with CaptureQueriesContext(connection) as captured:
        assert due.enqueue_due(ON_TIME) == 2_000
    assert JobRun.objects.waiting().count() == 2_000
    assert Job.objects.filter(settled_through=ON_TIME).count() == 2_000
    assert len(captured) < 22 * 4


def last_run(job: Job, at: str) -> None:
    JobState.objects.update_or_create(name=job.name, defaults={"last_run": at})


def test_what_the_older_service_ran_meanwhile_is_not_run_again() -> None:
    job = make()
    due.enqueue_due(BEFORE)
    last_run(job, (NOON + timedelta(seconds=1)).isoformat())
    due.settle_foreign_runs(LATE)
    assert due.enqueue_due(LATE) == 1
    assert made(job) == []


def test_a_firing_after_the_older_services_last_run_is_caught_up() -> None:
    job = make()
    due.enqueue_due(BEFORE)
    last_run(job, (NOON - timedelta(seconds=1)).isoformat())
    due.settle_foreign_runs(LATE)
    due.enqueue_due(LATE)
    assert slots(job) == [("12:00", "queued")]


def test_a_run_of_ours_settles_nothing() -> None:
    """One by hand may start after the daemon was back and before it looked what it had missed."""
    job = make()
    due.enqueue_due(BEFORE)
    started = NOON + timedelta(seconds=1)
    JobRun.objects.filter(pk=by_hand(job).pk).update(started_at=started, state=State.SUCCESS)
    last_run(job, started.isoformat())
    due.settle_foreign_runs(LATE)
    due.enqueue_due(LATE)
    assert ("12:00", "queued") in slots(job)


@pytest.mark.parametrize("text", ["once", "", "2999-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"])
def test_a_last_run_that_says_nothing_settles_nothing(text: str) -> None:
    job = make()
    due.enqueue_due(BEFORE)
    last_run(job, text)
    due.settle_foreign_runs(LATE)
    due.enqueue_due(LATE)
    assert slots(job) == [("12:00", "queued")]
