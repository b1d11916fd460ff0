"""What the overview says: how to begin, what is wrong, what the jobs do, what happened since one was here."""

from __future__ import annotations

import gzip
import re
import shutil
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from broker.github import app
from broker.models import GitHubState
from core.timestamps import iso_text, seconds_text, utc_now
from jobs.execution import output, output_files, output_shipping
from jobs.models import Alert, Daemon, Job, JobRun, JobState, State
from ops import overview, problems, queries
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
    assert "Whatever started lobwife" not in page


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


def test_a_database_that_can_not_be_read_is_said_on_the_overview(operator_client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_jobrun RENAME TO elsewhere")
    page = text(operator_client, "/admin/live/dashboard/")
    assert "The database can&#x27;t be read" in page


def test_a_task_counts_once_as_completed() -> None:
    now = utc_now()
    task = services.create_task(fields={"name": "a"}, actor="x")
    services.update_task(task_id=task.pk, changes={"status": Status.COMPLETED}, actor="x")
    services.log_event(task_id=task.pk, event_type="note", detail="after that", actor="x")
    TaskEvent.objects.filter(event_type="created").update(created_at=seconds_text(now - timedelta(days=3)))
    TaskEvent.objects.filter(event_type="updated").update(created_at=seconds_text(now - timedelta(days=2)))
    assert queries.tasks_since(now - timedelta(days=4)) == {"created": 1, "completed": 1}
    assert queries.tasks_since(now - timedelta(days=1)) == {"created": 0}


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
    row = rf'{job.name}</a></th>\s*<td class="shrink"><span class="badge badge-aborted">'
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
    assert words in text(operator_client, f"/admin/jobs/job/{job.pk}/change/")
    page = text(operator_client, "/admin/")
    assert words in page
    assert bool(re.search(r">in \d (h|min)", page)) is (words == "in ")


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


def many_jobs(count: int) -> None:
    now = utc_now()
    jobs = [
        Job(name=f"job-{number:03}", script="hello.py", schedule="*/5 * * * *", next_firing=now + timedelta(minutes=2))
        for number in range(count)
    ]
    Job.objects.bulk_create(jobs)
    runs = []
    for job in Job.objects.filter(name__startswith="job-"):
        for hour in range(12):
            state = State.FAILED if job.name.endswith("7") and hour == 0 else State.SUCCESS
            queued = now - timedelta(hours=hour, minutes=1)
            fields = {"trigger": "schedule", "queued_at": queued, "started_at": queued, "duration": 4.0}
            runs.append(JobRun(job=job, state=state, ended_at=queued + timedelta(seconds=4), **fields))
    JobRun.objects.bulk_create(sorted(runs, key=lambda run: run.queued_at))


def test_of_500_jobs_the_failing_ones_come_first_and_the_page_stays_small(operator_client: Client) -> None:
    many_jobs(500)
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now()})
    with CaptureQueriesContext(connection) as asked:
        page = text(operator_client, "/admin/")
    assert len(asked) < 45
    assert len(page.encode()) < 60_000
    assert page.count('<td class="axis-cell">') == overview.ROWS
    assert page.index("job-007</a>") < page.index("job-017</a>")
    assert "job-000</a>" not in page
    assert re.search(r"\d+ more jobs", page)
    live = text(operator_client, "/admin/live/dashboard/")
    frame = text(operator_client, "/admin/live/frame/")
    wire = {name: len(gzip.compress(part.encode())) for name, part in (("live", live), ("frame", frame))}
    assert max(wire.values()) < 5_000, wire
    assert "50 problems" in live
    assert "<summary>44 more</summary>" in live
    assert "Job job-207 failed." in live[live.index("44 more") :]
    assert 'data-problems="50"' in frame


def test_the_jobs_are_sent_again_only_when_there_is_something_new(operator_client: Client) -> None:
    page = text(operator_client, "/admin/live/jobs/")
    seen = re.search(r'id="jobs-seen" name="seen" value="(\w+)"', page)
    assert seen
    with time_machine.travel(utc_now().replace(second=10), tick=False):
        seen = re.search(r'name="seen" value="(\w+)"', text(operator_client, "/admin/live/jobs/"))
        assert seen
        assert operator_client.get(f"/admin/live/jobs/?seen={seen[1]}").status_code == 204
        run_of(Job.objects.all()[0], State.SUCCESS)
        assert operator_client.get(f"/admin/live/jobs/?seen={seen[1]}").status_code == 200


def test_a_run_on_the_time_axis_leads_to_its_page(operator_client: Client) -> None:
    run = run_of(Job.objects.all()[0], State.FAILED)
    JobRun.objects.update(exit_code=3, started_at=utc_now() - timedelta(hours=2), ended_at=utc_now())
    page = text(operator_client, "/admin/")
    target = f"/admin/jobs/jobrun/{run.pk}/change/"
    block = re.search(rf'<a href="{target}" class="state-failed"><title>([^<]*)</title><rect', page)
    assert block
    assert "failed, exit 3, 2 h" in block[1]


def test_who_comes_back_is_told_what_happened_meanwhile(operator_client: Client) -> None:
    now = utc_now()
    with time_machine.travel(now - timedelta(hours=9), tick=False):
        assert "Since you were last here" not in text(operator_client, "/admin/")
    job = Job.objects.all()[0]
    run_of(job, State.FAILED)
    run_of(job, State.SUCCESS)
    services.create_task(fields={"name": "a"}, actor="x")
    for _ in range(2):  # a look more is the same visit
        page = " ".join(text(operator_client, "/admin/").split())
        assert "Since you were last here, <time" in page
        assert ">2 runs</a>" in page
        assert f"1 failed</a> ({job.name} 1)" in page
        assert "0 tasks completed, 0 failed, 1 created." in page


def test_a_problem_is_acknowledged_until_it_begins_anew(operator_client: Client, olga: User) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now()})
    job = Job.objects.all()[0]
    run_of(job, State.FAILED)
    assert f"Job {job.name} failed." in text(operator_client, "/admin/")
    form, reopened = {"acknowledge": f"job {job.name}"}, {"key": f"job {job.name}"}
    answer = operator_client.post("/admin/problems/acknowledge/", form, headers={"HX-Request": "true"})
    assert (answer.content, answer["HX-Trigger"]) == (b"Acknowledged.", "changed")
    page = text(operator_client, "/admin/")
    assert "Everything is all right." in page
    assert "1 acknowledged or snoozed" in page
    assert "Acknowledged by olga" in page
    run_of(job, State.FAILED)
    assert "Everything is all right." in text(operator_client, "/admin/"), "it is the same problem"
    operator_client.post("/admin/problems/reopen/", reopened)
    assert "failed 2 times in a row" in text(operator_client, "/admin/")
    operator_client.post("/admin/problems/acknowledge/", form)
    run_of(job, State.SUCCESS)
    run_of(job, State.FAILED)
    assert "Everything is all right." not in text(operator_client, "/admin/")


def test_a_snoozed_problem_counts_again_after_its_time(operator_client: Client) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now()})
    job = Job.objects.all()[0]
    run_of(job, State.FAILED)
    operator_client.post("/admin/problems/acknowledge/", {"snooze": f"job {job.name}"})
    assert "Snoozed by olga" in text(operator_client, "/admin/")
    later = utc_now() + timedelta(hours=8, minutes=1)
    assert [each.key for each in problems.unacknowledged(later) if each.check == "jobs"] == [f"job {job.name}"]
    refused = operator_client.post("/admin/problems/acknowledge/", {"acknowledge": "no such problem"}, follow=True)
    assert "That problem is over." in refused.content.decode()
    operator_client.logout()
    viewer = User.objects.create_user("viktor", is_staff=True)
    viewer.groups.add(Group.objects.get(name="Viewers"))
    operator_client.force_login(viewer)
    assert "Acknowledge</button>" not in text(operator_client, "/admin/")
    assert operator_client.post("/admin/problems/acknowledge/", {"acknowledge": f"job {job.name}"}).status_code == 403


def test_the_reason_of_a_failure_stands_beside_it(operator_client: Client) -> None:
    run = run_of(Job.objects.all()[0], State.FAILED)
    JobRun.objects.update(exit_code=3)
    path = output_files.output_path(run.pk)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("reading\n\033[31mcannot open /data/yesterday.csv\033[0m\n\n")
    output_shipping.shipper().take_in(run.pk)
    try:
        reason = "exit 3 · cannot open /data/yesterday.csv"
        assert reason in text(operator_client, "/admin/")
        assert reason in text(operator_client, "/admin/jobs/jobrun/")
        assert reason in text(operator_client, "/admin/jobs/jobrun/?view=jobs")
        assert reason in text(operator_client, "/admin/activity/")
    finally:
        output.delete(run.pk)
