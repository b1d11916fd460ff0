"""What is kept of the past: age, number and size together, and never an active run's loss."""

from __future__ import annotations

import pathlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django_apscheduler.models import DjangoJob, DjangoJobExecution

from core.timestamps import utc_now
from jobs import services
from jobs.execution import output, output_files, output_shipping
from jobs.execution.retention import prune
from jobs.models import Alert, Job, JobRun, State, Trigger

pytestmark = pytest.mark.django_db(transaction=True)  # it closes its connection


@pytest.fixture(autouse=True)
def limits(settings: LazySettings, tmp_path: pathlib.Path) -> None:
    settings.STATE_DIR = tmp_path
    settings.JOB_KEEP_DAYS, settings.JOB_KEEP_RUNS, settings.JOB_KEEP_OUTPUT_BYTES = 90, 1000, 10**6


def define(name: str) -> Job:
    return services.define_job(fields={"name": name, "script": "hello.py", "schedule": "@daily"}, actor="t")


def runs_of(job: Job, count: int = 1, *, days: float = 0, state: str = State.SUCCESS, size: int = 10) -> list[JobRun]:
    moment = utc_now() - timedelta(days=days)
    ended = None if state in (State.QUEUED, State.RUNNING) else moment
    made = [
        JobRun.objects.create(job=job, trigger=Trigger.REST, state=state, queued_at=moment, ended_at=ended)
        for _ in range(count)
    ]
    for run in made:
        path = output_files.output_path(run.pk)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        output_shipping.shipper().take_in(run.pk)
    return made


def left(**having: Any) -> set[int]:
    return set(JobRun.objects.filter(**having).values_list("pk", flat=True))


def has_output(runs: list[JobRun]) -> list[bool]:
    return [output.size_on_disk(run.pk) > 0 for run in runs]


def test_what_is_too_old_goes_with_its_output() -> None:
    job = define("one")
    old = runs_of(job, 3, days=91)
    young = runs_of(job, 2, days=89)
    assert prune().runs == 3
    assert left() == {run.pk for run in young}
    assert has_output(old) == [False] * 3
    assert has_output(young) == [True] * 2


def test_each_job_keeps_its_newest(settings: LazySettings) -> None:
    settings.JOB_KEEP_RUNS = 5
    much, little = define("much"), define("little")
    few = runs_of(little, 3)
    many = runs_of(much, 405)
    assert prune().runs == 400
    assert left(job=much) == {run.pk for run in many[-5:]}
    assert left(job=little) == {run.pk for run in few}


def test_when_all_output_takes_too_much_the_oldest_goes_and_its_runs_stay() -> None:
    runs = runs_of(define("one"), 10, size=200_000)
    pruned = prune()
    assert (pruned.runs, pruned.outputs) == (0, 5)
    assert len(left()) == 10
    assert has_output(runs) == [False] * 5 + [True] * 5


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_an_active_run_is_never_touched(settings: LazySettings, state: str) -> None:
    settings.JOB_KEEP_RUNS, settings.JOB_KEEP_OUTPUT_BYTES = 1, 0
    job = define("one")
    [active] = runs_of(job, days=365, state=state)
    others = runs_of(job, 3, days=1)
    prune()
    assert left() == {active.pk, others[-1].pk}
    assert has_output([active]) == [True]


@pytest.mark.sqlite("output in files: in the database it goes with the row")
def test_output_of_a_deleted_job_goes(tmp_path: pathlib.Path) -> None:
    stays = runs_of(define("stays"))
    goes = runs_of(define("goes"), 3)
    services.delete_job(name="goes", actor="t")
    assert prune().orphans == 3
    assert has_output(goes) == [False] * 3
    assert has_output(stays) == [True]
    assert prune().orphans == 0


def test_what_points_at_a_run_that_goes_stays() -> None:
    job = define("one")
    [old] = runs_of(job, days=100)
    [again] = runs_of(job)
    JobRun.objects.filter(pk=again.pk).update(retry_of=old)
    now = utc_now()
    alert = Alert.objects.create(
        kind="failing", run=old, title="t", body="b", fingerprint="f", created_at=now, next_attempt_at=now
    )
    prune()
    again.refresh_from_db()
    alert.refresh_from_db()
    assert (again.retry_of, alert.run) == (None, None)


def test_old_alerts_go_unless_they_are_still_to_be_sent() -> None:
    moment = utc_now() - timedelta(days=91)
    for state in ("pending", "sent", "dropped"):
        Alert.objects.create(
            kind="failing", title="t", body="b", state=state, created_at=moment, next_attempt_at=moment
        )
    assert prune().alerts == 2
    assert Alert.objects.get().state == "pending"


def test_the_scheduler_s_own_history_is_trimmed() -> None:
    wake = DjangoJob.objects.create(id="wake", job_state=b"")
    for days in (0.5, 2, 3):
        DjangoJobExecution.objects.create(
            job=wake, status="Executed", run_time=datetime.now(UTC) - timedelta(days=days)
        )
    assert prune().wakes == 2
    assert DjangoJobExecution.objects.count() == 1


def test_nothing_to_prune_is_no_error() -> None:
    assert vars(prune()) == {"runs": 0, "outputs": 0, "orphans": 0, "alerts": 0, "wakes": 0}
