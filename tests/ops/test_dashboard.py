"""What the dashboard says: how to begin, what is wrong, what was done each day."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import Settings

from broker.github import app
from broker.models import GitHubState
from core.timestamps import iso_text, seconds_text, utc_now
from jobs.models import Alert, Daemon, Job, JobRun, JobState, State
from ops import queries
from ops.checks import machine
from tasks import services
from tasks.models import Status, Task, TaskEvent
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]


def test_an_empty_installation_is_told_how_to_begin(operator_client: Client) -> None:
    Job.objects.all().delete()
    page = text(operator_client, "/admin/")
    assert "A job is a script that runs on a schedule" in page
    assert "/api/v1/tasks</pre>" in page
    assert "The daemon is not running" in page


def test_a_daemon_that_is_silent_is_bad_news(operator_client: Client) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now() - timedelta(minutes=5)})
    assert "The daemon has not given a sign of life" in text(operator_client, "/admin/")
    Daemon.objects.filter(pk=1).update(beat_at=utc_now())
    assert "Everything is all right." in text(operator_client, "/admin/")


def test_on_a_full_disk_nobody_is_told_to_start_a_daemon_that_runs(
    operator_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now() - timedelta(minutes=5)})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    page = text(operator_client, "/admin/")
    assert "is full: nothing can be written and no script starts. Make room" in page
    assert "Start it with" not in page


def test_a_github_that_gave_no_token_when_it_was_last_asked_is_said(
    operator_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now()})
    monkeypatch.setattr(app, "problem", lambda: None)
    yesterday = utc_now() - timedelta(days=1)
    state = {"last_mint_at": yesterday, "last_error": "GitHub can't be reached", "last_error_at": utc_now()}
    GitHubState.objects.update_or_create(pk=1, defaults=state)
    said = "GitHub gave no token when it was last asked: GitHub can&#x27;t be reached"
    assert said in text(operator_client, "/admin/")
    GitHubState.objects.update(last_mint_at=None)
    assert said in text(operator_client, "/admin/")
    GitHubState.objects.update(last_mint_at=utc_now())
    assert "Everything is all right." in text(operator_client, "/admin/")


def test_a_database_that_can_not_be_read_is_said_on_the_dashboard(operator_client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_jobrun RENAME TO elsewhere")
    page = text(operator_client, "/admin/live/dashboard/")
    assert "The database can&#x27;t be read" in page


def test_a_task_counts_once_on_the_day_it_was_completed() -> None:
    now = utc_now()
    task = services.create_task(fields={"name": "a"}, actor="x")
    services.update_task(task_id=task.pk, changes={"status": Status.COMPLETED}, actor="x")
    services.log_event(task_id=task.pk, event_type="note", detail="after that", actor="x")
    TaskEvent.objects.filter(event_type="created").update(created_at=seconds_text(now - timedelta(days=3)))
    TaskEvent.objects.filter(event_type="updated").update(created_at=seconds_text(now - timedelta(days=2)))
    counts = dict(queries._count_days(now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=5), 6))
    assert [day["created"] for day in counts.values()] == [0, 0, 1, 0, 0, 0]
    assert [day["completed"] for day in counts.values()] == [0, 0, 0, 1, 0, 0]


def test_tasks_that_take_too_long_are_named_and_listed(operator_client: Client) -> None:
    slow = services.create_task(fields={"name": "slow", "status": Status.ACTIVE, "estimate_minutes": 10}, actor="x")
    fine = services.create_task(fields={"name": "fine", "status": Status.ACTIVE}, actor="x")
    Task.objects.update(assigned_at=iso_text(utc_now() - timedelta(minutes=30)))
    assert f"{slow} is active too long." in text(operator_client, "/admin/")
    listed = text(operator_client, "/admin/tasks/task/?attention=active")
    assert f"/tasks/task/{slow.pk}/change/" in listed
    assert f"/tasks/task/{fine.pk}/change/" not in listed


def run_of(job: Job, state: str) -> JobRun:
    return JobRun.objects.create(job=job, state=state, trigger="rest", queued_at=utc_now())


def test_the_page_of_an_app_lists_its_models_and_judges_nothing(operator_client: Client) -> None:
    for label in ("jobs", "tasks", "broker", "vaultsync", "lobwife", "auth"):
        page = text(operator_client, f"/admin/{label}/")
        assert "Everything is all right." not in page
        assert re.search(rf'<th scope="row" id="[^"]*">\s*<a href="/admin/{label}/\w+/"', page), label


def test_a_run_is_called_what_it_is(operator_client: Client) -> None:
    job = Job.objects.first()
    run_of(job, State.SUCCESS)
    run_of(job, State.ABORTED)
    JobState.objects.update_or_create(name=job.name, defaults={"last_status": "failed"})
    row = rf'{job.name}</a></th>\s*<td><span class="badge badge-aborted">'
    assert re.search(row, text(operator_client, "/admin/"))
    run_of(job, State.QUEUED)
    page = text(operator_client, "/admin/")
    assert re.search(row, page)
    assert '<span class="badge badge-queued">queued</span></a></td>' in page


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pid": 7, "beat_at": utc_now}, "in "),
        ({"pid": 7, "beat_at": utc_now, "paused_at": utc_now}, "badge-paused"),
        ({"pid": None}, "badge-daemon-down"),
    ],
)
def test_the_next_start_is_promised_only_when_it_will_be(
    operator_client: Client, fields: dict[str, Any], words: str
) -> None:
    values = {name: value() if callable(value) else value for name, value in fields.items()}
    Daemon.objects.update_or_create(pk=1, defaults=values)
    job = Job.objects.first()
    Job.objects.filter(pk=job.pk).update(next_firing=utc_now() + timedelta(hours=2))
    for path in ("/admin/", f"/admin/jobs/job/{job.pk}/change/"):
        page = text(operator_client, path)
        assert words in page
        assert bool(re.search(r">in \d (h|min)", page)) is (words == "in "), path


def test_alerts_that_go_nowhere_or_were_refused_are_findings(operator_client: Client, settings: Settings) -> None:
    def sentences() -> list[str]:
        return [finding.sentence for finding in machine.alerts() if not finding.is_well]

    settings.ALERT_URLS = ()
    assert sentences() == []
    job = Job.objects.first()
    Job.objects.filter(pk=job.pk).update(late_after_seconds=60)
    nowhere = f"Alerts of job {job.name} go nowhere."
    assert sentences() == [nowhere]
    assert nowhere in text(operator_client, "/admin/")
    settings.ALERT_URLS = ("json://127.0.0.1:9/",)
    assert sentences() == []
    fields = {"kind": "failing", "title": "t", "body": "", "destination": "json://…", "fingerprint": ""}
    fields |= {"created_at": utc_now(), "next_attempt_at": utc_now()}
    Alert.objects.create(**fields)
    assert sentences() == [], "one that was not tried yet is in time"
    for _ in range(2):
        Alert.objects.create(**fields, attempts=1, error="connection refused")
    (refused,) = sentences()
    assert re.fullmatch(r"2 alerts could not be sent since .* UTC, to json://…: connection refused\.", refused)
    assert "2 alerts could not be sent since" in text(operator_client, "/admin/")
    Alert.objects.update(state="dropped")
    assert "3 alerts of the last day were sent to nobody" in text(operator_client, "/admin/")
