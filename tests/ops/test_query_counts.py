"""How often pages with lists ask the database."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from broker.audit import SYSTEM
from broker.services import register_named
from core.timestamps import utc_now
from jobs.models import Job, JobRun, State
from ops import page_frame
from tasks import services

pytestmark = pytest.mark.django_db


def queries(client: Client, path: str) -> int:
    page_frame.remember([])  # else the problems are counted, once a minute
    with CaptureQueriesContext(connection) as asked:
        assert client.get(path).status_code == 200
    return len(asked)


@pytest.mark.parametrize(
    "path",
    [
        "/admin/tasks/task/",
        "/admin/tasks/taskevent/",
        "/admin/broker/taskregistration/",
        "/admin/broker/legacyregistration/",
    ],
)
def test_a_longer_list_asks_no_more_often(client: Client, path: str) -> None:
    client.force_login(User.objects.create_superuser("olga"))
    client.get(path)  # content types are read once for a process
    counts = []
    for rows in (2, 20):
        for number in range(rows):
            services.create_task(fields={"name": f"t{rows}-{number}", "repos": ["org/a"]}, actor="x")
            for name in (f"t{rows}-{number}", f"legacy-{rows}-{number}"):
                register_named(text=name, repos=["org/a"], lobster_type="swe", caller=SYSTEM)
        counts.append(queries(client, path))
    assert counts[0] == counts[1] <= 12


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("path", ["/admin/", "/admin/activity/?kind=run", "/admin/jobs/jobrun/"])
def test_the_last_words_of_runs_that_failed_are_asked_for_together(client: Client, path: str) -> None:
    client.force_login(User.objects.create_superuser("olga"))
    client.get(path)
    counts = []
    for rows in (3, 18):
        for number in range(rows):
            job = Job.objects.create(name=f"job-{rows}-{number}", script="hello.py", schedule="@daily")
            JobRun.objects.create(job=job, state=State.FAILED, trigger="rest", exit_code=3, queued_at=utc_now())
        counts.append(queries(client, path))
    assert counts[0] == counts[1]


def test_a_task_with_a_long_history_shows_its_newest_events(client: Client) -> None:
    client.force_login(User.objects.create_superuser("olga"))
    task = services.create_task(fields={"name": "busy"}, actor="x")
    for number in range(120):
        services.log_event(task_id=task.pk, event_type="note", detail=f"note {number};", actor=None)
    page = client.get(f"/admin/tasks/task/{task.pk}/change/").content.decode()
    assert "note 119;" in page
    assert "note 20;" in page
    assert "note 19;" not in page
    assert f"All events of T{task.pk}" in page
