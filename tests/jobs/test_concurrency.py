"""What a run does to those of its job before it, and what follows on how it ended."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.execution import runs
from jobs.execution.runs import Ending, Process
from jobs.models import Job, JobRun, JobState, State, Trigger
from jobs.scheduling import due
from tests.support.due import NOON, ON_TIME, by_hand, made, make, slots

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _only_our_jobs() -> None:
    Job.objects.all().delete()
    JobState.objects.all().delete()


def test_a_waiting_retry_gives_way_to_the_next_firing() -> None:
    job = make(retries=3, retry_delay_seconds=3600)
    run = by_hand(job)
    runs.record_end(run, Ending(State.FAILED, exit_code=1))
    retry = JobRun.objects.get(trigger=Trigger.RETRY)
    due.enqueue_due(ON_TIME)
    retry.refresh_from_db()
    assert (retry.state, retry.note) == (
        State.SKIPPED,
        f"attempt 2 of 4, 3600 s after run {run.pk}; gave way to the next firing",
    )
    assert slots(job) == [("12:00", "queued")]


def test_retries_stay_where_runs_may_be_side_by_side() -> None:
    job = make(concurrency="allow", max_parallel=2, retries=3, retry_delay_seconds=3600)
    runs.record_end(by_hand(job), Ending(State.FAILED, exit_code=1))
    due.enqueue_due(ON_TIME)
    assert JobRun.objects.get(trigger=Trigger.RETRY).state == State.QUEUED
    assert slots(job) == [("12:00", "queued")]


def test_a_refused_firing_takes_no_retry_away() -> None:
    job = make(concurrency="allow", max_parallel=1, retries=3, retry_delay_seconds=3600)
    runs.record_end(by_hand(job), Ending(State.FAILED, exit_code=1))
    retry = JobRun.objects.get(trigger=Trigger.RETRY)
    JobRun.objects.create(job=job, trigger=Trigger.REST, queued_at=NOON, definition=runs.definition_of(job))
    due.enqueue_due(ON_TIME)
    retry.refresh_from_db()
    assert retry.state == State.QUEUED
    assert slots(job) == [("12:00", "skipped")]


def test_queue_lets_one_wait_and_no_more() -> None:
    job = make(concurrency="queue")
    by_hand(job)
    due.enqueue_due(ON_TIME)
    due.enqueue_due(ON_TIME + timedelta(minutes=5))
    assert slots(job) == [("12:00", "queued"), ("12:05", "skipped")]


def test_replace_leaves_only_the_newest_waiting() -> None:
    job = make(concurrency="replace")
    by_hand(job, start=False)
    due.enqueue_due(ON_TIME)
    due.enqueue_due(ON_TIME + timedelta(minutes=5))
    assert slots(job) == [("12:00", "skipped"), ("12:05", "queued")]


def test_allow_takes_no_more_than_its_maximum() -> None:
    job = make(concurrency="allow", max_parallel=2)
    for minutes in (0, 5, 10):
        due.enqueue_due(ON_TIME + timedelta(minutes=minutes))
    assert [state for _, state in slots(job)] == ["queued", "queued", "skipped"]


@pytest.mark.parametrize("state", [State.FAILED, State.TIMEOUT, State.ERROR, State.LOST])
def test_a_failure_is_retried_with_back_off_up_to_its_number(state: str) -> None:
    job = make(retries=3, retry_delay_seconds=10, retry_delay_max_seconds=15)
    run: JobRun | None = by_hand(job)
    delays = []
    while run:
        runs.record_end(run, Ending(state))
        run = JobRun.objects.active().first()
        if run and run.not_before:
            delays.append((run.not_before - run.queued_at).total_seconds())
            assert runs.record_start(run, Process(1, 1, "boot"))
    assert delays == [10, 15, 15]


def test_of_parallel_runs_that_fail_together_each_is_retried() -> None:
    job = make(concurrency="allow", max_parallel=3, retries=2)
    lost = [by_hand(job) for _ in range(3)]
    for run in lost:
        runs.record_end(run, Ending(State.LOST, "its runner died"))
    assert list(JobRun.objects.active().order_by("pk").values_list("retry_of", flat=True)) == [run.pk for run in lost]


def test_a_failure_is_not_retried_when_a_newer_run_is_on_its_way() -> None:
    job = make(concurrency="queue", retries=2)
    run = by_hand(job)
    newer = by_hand(job)
    runs.record_end(run, Ending(State.FAILED, exit_code=1))
    assert JobRun.objects.active().get() == newer


def test_how_many_were_missed_is_still_told_when_the_run_is_over() -> None:
    job = make(settled=NOON - timedelta(days=7))
    due.enqueue_due(ON_TIME)
    runs.record_end(made(job)[0], Ending(State.ABORTED, "aborted by olga"))
    assert made(job)[0].note == "2015 firings missed; aborted by olga"


def test_what_ended_with_its_daemon_is_tried_again() -> None:
    make(retries=1)
    run = by_hand(Job.objects.get())
    runs.record_end(run, Ending(State.ABORTED, "aborted by the shutdown of the daemon"))
    assert JobRun.objects.active().get().retry_of == run


@pytest.mark.parametrize("state", [State.SUCCESS, State.SKIPPED])
def test_what_did_not_fail_is_not_retried(state: str) -> None:
    make(retries=3)
    run = by_hand(Job.objects.get())
    runs.record_end(run, Ending(state))
    assert not JobRun.objects.active().exists()


@pytest.mark.parametrize("state", [State.ABORTED, State.LOST])
def test_a_run_whose_abort_was_asked_for_is_not_retried_however_it_ended(state: str) -> None:
    make(retries=3)
    run = by_hand(Job.objects.get())
    runs.abort_run(run_id=run.pk, actor="a test")
    runs.record_end(run, Ending(state))
    assert not JobRun.objects.active().exists()


def test_a_skipped_run_leaves_the_summary_as_callers_know_it() -> None:
    job = make()
    runs.record_end(by_hand(job), Ending(State.SUCCESS, duration=1.0))
    before = JobState.objects.values().get(name=job.name)
    runs.record_end(by_hand(job, start=False), Ending(State.SKIPPED, "late"))
    assert JobState.objects.values().get(name=job.name) == before


@pytest.mark.parametrize("note", ["", "3 firings missed"])
def test_a_run_that_never_starts_still_tells_what_was_noted_before(note: str) -> None:
    job = make(concurrency="replace", settled=NOON)
    queued = by_hand(job, start=False)
    JobRun.objects.filter(pk=queued.pk).update(note=note)
    last = by_hand(job, start=False)
    JobRun.objects.filter(pk=last.pk).update(note=note)
    runs.abort_run(run_id=last.pk, actor="olga")
    before = f"{note}; " if note else ""
    assert list(JobRun.objects.order_by("id").values_list("state", "note")) == [
        (State.SKIPPED, f"{before}replaced by a run that a test asked for"),
        (State.ABORTED, f"{before}aborted by olga before it started"),
    ]
