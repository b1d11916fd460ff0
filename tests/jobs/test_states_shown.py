"""Pages and commands call a job's state what it is: queued is not running, aborted not failed, held not due."""

from __future__ import annotations

import io
import re

import pytest
from django.core.management import call_command
from django.test import Client

from core.timestamps import utc_now
from jobs import services
from jobs.execution import runs
from jobs.execution.runs import Ending, Process
from jobs.models import Daemon, Job, State, Trigger
from tests.support.pages import text

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def job() -> Job:
    """A job that is due some day, and a daemon that is alive."""
    Job.objects.all().delete()
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now(), "paused_at": None})
    return services.define_job(fields={"name": "one", "script": "hello.py", "schedule": "@yearly"}, actor="a test")


def listed() -> str:
    """The job's line of `manage.py jobs`."""
    out = io.StringIO()
    call_command("jobs", stdout=out, stderr=io.StringIO())
    [line] = [line for line in out.getvalue().splitlines() if line.startswith("one\t")]
    return line


def row(client: Client) -> str:
    """The job's row of the list, as text."""
    page = text(client, "/admin/jobs/job/")
    body = page[page.index('id="result_list"') :]
    return " ".join(re.sub(r"<[^>]*>", " ", body[body.index("<tbody") : body.index("</tbody")]).split())


def page(client: Client, job: Job) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", text(client, f"/admin/jobs/job/{job.pk}/change/")).split())


def test_a_queued_job_is_listed_as_queued_and_then_as_running(job: Job) -> None:
    run = runs.request_run(name="one", trigger=Trigger.OPERATOR, requested_by="olga")
    assert listed().split("\t")[1] == "queued"
    runs.record_start(run, Process(1, 1, "boot"))
    assert listed().split("\t")[1] == "running"


def test_an_aborted_run_is_not_listed_as_failed(job: Job, operator_client: Client) -> None:
    run = runs.request_run(name="one", trigger=Trigger.OPERATOR, requested_by="olga")
    runs.record_start(run, Process(1, 1, "boot"))
    runs.record_end(run, Ending(State.ABORTED, "aborted by olga", duration=1.0))
    assert listed().split("\t")[3] == "aborted"
    assert "aborted" in row(operator_client)
    assert "failed" not in row(operator_client)
    assert "one" in row_filtered(operator_client, "aborted")
    assert operator_client.get("/api/jobs").json()["one"]["last_status"] == "failed", "the contract has no such word"


def row_filtered(client: Client, status: str) -> str:
    return text(client, f"/admin/jobs/job/?last_status={status}")


@pytest.mark.parametrize(
    ("daemon", "word"),
    [({"paused_at": utc_now(), "paused_by": "olga"}, "paused"), ({"beat_at": None}, "daemon down")],
    ids=["paused", "daemon down"],
)
def test_nothing_is_said_to_be_next_while_nothing_starts(
    job: Job, operator_client: Client, daemon: dict[str, object], word: str
) -> None:
    assert " in " in row(operator_client)
    assert " in " in page(operator_client, job)
    assert listed().split("\t")[5].startswith("20")
    Daemon.objects.update(**daemon)
    assert word in row(operator_client)
    assert f"Next {word}" in page(operator_client, job)
    assert not re.search(r"in \d+ (s|min|h|d)", row(operator_client))
    assert listed().split("\t")[5] == word
