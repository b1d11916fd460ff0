"""What happened in a time: the list of runs, its summary by job, the activity log, REST and the command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from core.errors import Invalid
from core.timestamps import utc_now
from jobs import time_range
from jobs.models import Job, JobRun, State
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]
NOON = datetime(2026, 2, 16, 12, tzinfo=UTC)


def run_at(job: Job, moment: datetime, state: str = State.SUCCESS, **fields: object) -> JobRun:
    times = {"queued_at": moment, "started_at": moment, "ended_at": moment + timedelta(seconds=2), "duration": 2.0}
    return JobRun.objects.create(job=job, state=state, trigger="schedule", **{**times, **fields})


def night(job: Job) -> tuple[list[JobRun], JobRun]:
    """Three runs that ended well and one that failed in the night before noon, and one of the week before."""
    good = [run_at(job, NOON - timedelta(hours=hours)) for hours in (11, 10, 9)]
    failed = run_at(job, NOON - timedelta(hours=8), State.FAILED, exit_code=3)
    run_at(job, NOON - timedelta(days=9))
    return good, failed


@pytest.mark.parametrize(
    ("parameters", "since", "until"),
    [
        ({}, None, None),
        ({"range": "24h"}, NOON - timedelta(days=1), None),
        ({"range": "last-night"}, NOON - timedelta(hours=16), NOON - timedelta(hours=4)),
        ({"since": "2026-02-10T08:00", "until": "7d"}, datetime(2026, 2, 10, 8, tzinfo=UTC), NOON - timedelta(days=7)),
        ({"range": "no such range"}, None, None),
    ],
)
def test_a_range_is_a_preset_or_two_times(
    parameters: dict[str, str], since: datetime | None, until: datetime | None
) -> None:
    chosen = time_range.read(parameters, NOON)
    assert (chosen.since, chosen.until) == (since, until)


def test_in_the_evening_last_night_is_the_one_that_is_over() -> None:
    evening = NOON.replace(hour=7)
    assert time_range.read({"range": "last-night"}, evening).since == evening.replace(hour=20) - timedelta(days=1)


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(Invalid, match="since must be a time such as"):
        time_range.read({"since": "yesterday"}, NOON)


def test_times_beyond_the_calendar_are_no_errors_of_the_server(operator_client: Client) -> None:
    for path in ("/admin/activity/", "/admin/jobs/jobrun/", "/api/v1/runs"):
        for value in ("999999d", "0001-01-01"):
            for name in ("since", "until", "before"):
                status = operator_client.get(path, {name: value}).status_code
                assert status in (200, 302, 400), (path, name, value)


def test_the_list_shows_the_night_by_day_with_states_and_clock_times(operator_client: Client) -> None:
    job = Job.objects.all()[0]
    good, failed = night(job)
    with time_machine.travel(NOON, tick=False):
        page = text(operator_client, "/admin/jobs/jobrun/?range=last-night")
        assert page.count('<tr class="day">') == 1
        assert "Monday 16 February 2026" in page
        assert ">01:00:00</time>" in page
        assert page.count('class="state-success"') == len(good)
        assert '<td class="reason field-why">exit 3</td>' in page
        week = text(operator_client, "/admin/jobs/jobrun/?range=30d")
        assert week.count('<tr class="day">') == 2
        failures = text(operator_client, "/admin/jobs/jobrun/?range=7d&state=failures")
    assert f"/admin/jobs/jobrun/{failed.pk}/change/" in failures
    assert f"/admin/jobs/jobrun/{good[0].pk}/change/" not in failures


def test_the_summary_folds_the_runs_of_a_job(operator_client: Client) -> None:
    jobs = list(Job.objects.all())
    _, failed = night(jobs[0])
    run_at(jobs[1], NOON - timedelta(hours=9))
    with time_machine.travel(NOON, tick=False):
        page = " ".join(text(operator_client, "/admin/jobs/jobrun/?range=last-night&view=jobs").split())
    assert page.index(f">{jobs[0].name}</a>") < page.index(f">{jobs[1].name}</a>")
    assert "3 ok</td>" in page
    assert "1 failed</a>" in page
    assert f">run {failed.pk}</a>" in page


def test_the_activity_log_sums_up_successes_and_names_failures(operator_client: Client) -> None:
    job = Job.objects.all()[0]
    good, failed = night(job)
    with time_machine.travel(NOON, tick=False):
        page = text(operator_client, "/admin/activity/?range=last-night")
        assert f"{job.name}: {len(good)} ok, 1 failed" in page
        assert f"run {failed.pk} of {job.name}: failed" in page
        assert f"run {good[0].pk} of" not in page
        only = text(operator_client, "/admin/activity/?range=last-night&failures=1")
        assert " ok, 1 failed" not in only
        assert f"run {failed.pk} of {job.name}: failed" in only
        assert "Nothing like that happened" in text(operator_client, "/admin/activity/?since=1h&kind=run")
        assert "Since must be a time" in text(operator_client, "/admin/activity/?since=yesterday")


def test_many_runs_are_retried_with_one_sentence(operator_client: Client) -> None:
    jobs = list(Job.objects.all()[:2])
    failed = [run_at(job, utc_now(), State.FAILED, definition={}) for job in (*jobs, jobs[0])]
    form = {"action": "retry_selected", "_selected_action": [run.pk for run in failed]}
    page = operator_client.post("/admin/jobs/jobrun/", form, follow=True).content.decode()
    assert "2 runs are queued again." in page
    assert "1 refused: run " in page
    assert JobRun.objects.filter(state=State.QUEUED).count() == 2


def test_rest_and_the_command_take_a_range(operator_client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job.objects.all()[0]
    good, failed = night(job)
    client = Client(REMOTE_ADDR="127.0.0.1")
    with time_machine.travel(NOON, tick=False):
        path = "/api/v1/runs?since=24h&until=2026-02-16T03:30"
        assert [run["id"] for run in client.get(path).json()] == [good[2].pk, good[1].pk, good[0].pk]
        assert [run["id"] for run in client.get("/api/v1/runs?since=2026-02-16T04:00:00Z").json()] == [failed.pk]
        refused = client.get("/api/v1/runs?until=soon")
        assert (refused.status_code, refused.json()["error"][:28]) == (400, "until must be a time such as")
        call_command("runs", "--since", "24h", "--state", "failed", "--json")
        assert [run["id"] for run in json.loads(capsys.readouterr().out)] == [failed.pk]
        with pytest.raises(CommandError, match="since must be a time"):
            call_command("runs", "--since", "soon")
