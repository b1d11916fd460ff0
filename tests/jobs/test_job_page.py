"""The overview of a job and its settings: what people write, and what is stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils.html import escape

from jobs import services
from jobs.execution import runs
from jobs.models import Job, State, Trigger
from tests.support.pages import form_of, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def job() -> Job:
    fields: dict[str, Any] = {"name": "import", "script": "hello.py", "schedule": "30 12 * * *"}
    fields |= {"timezone": "Europe/Berlin", "timeout_seconds": 5400, "arguments": ["--day", "two words"]}
    return services.define_job(fields={**fields, "environment": {"MODE": "full"}}, actor="t")


def settings_of(job: Job) -> str:
    return f"/admin/jobs/job/{job.pk}/settings/"


def test_the_settings_are_shown_as_people_write_them(operator_client: Client, job: Job) -> None:
    sent = form_of(operator_client, settings_of(job))
    assert (sent["timeout_seconds"], sent["arguments"]) == ("1h 30m", "--day 'two words'")
    assert (sent["environment"], sent["retry_delay_seconds"]) == ("MODE=full", "30s")
    page = text(operator_client, settings_of(job))
    assert '<option value="hello.py">' in page
    assert "Wed" in page or "Thu" in page
    assert "Europe/Berlin" in page


def test_what_was_typed_is_stored_as_the_daemon_reads_it(operator_client: Client, job: Job) -> None:
    changes = {"timeout_seconds": "5m", "arguments": "--full 'a b'", "environment": "MODE=x=y\n\nEMPTY=\n"}
    sent = form_of(operator_client, settings_of(job), **changes, late_after_seconds="2h", secrets="")
    assert operator_client.post(settings_of(job), sent).status_code == 302
    job.refresh_from_db()
    assert (job.timeout_seconds, job.late_after_seconds) == (300, 7200)
    assert (job.arguments, job.environment) == (["--full", "a b"], {"MODE": "x=y", "EMPTY": ""})


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("schedule", "61 * * * *", "'61 * * * *' is not a schedule: bad minute."),
        ("schedule", "0 0 30 2 *", "is not a schedule: bad day-of-month."),
        ("timezone", "Mars/Base", "'Mars/Base' is not a timezone"),
        ("script", "nowhere.sh", "Script nowhere.sh not found: put it in one of"),
        ("script", "../hello.py", "A script is named by its file name alone"),
        ("arguments", "'open", "It can't be read as words of a shell: No closing quotation."),
        ("timeout_seconds", "soon", "Write a duration such as 90s, 5m, 1h 30m or 2d."),
        ("environment", "no equals sign", "Line 1 is not NAME=value."),
        ("alert_urls", "not-a-url", "Number 1 is not a URL"),
        ("ping_url", "ftp://example.com/x", "Must be a URL that begins with https://"),
    ],
)
def test_what_could_not_work_is_refused_at_its_field(
    operator_client: Client, job: Job, field: str, value: str, reason: str
) -> None:
    before = Job.objects.filter(pk=job.pk).values(*services.DEFINITION).get()
    answer = operator_client.post(settings_of(job), form_of(operator_client, settings_of(job), **{field: value}))
    assert answer.status_code == 200
    reasons = answer.context["adminform"].form.errors[field]
    assert reason in " ".join(reasons)
    assert escape(reasons[0]) in answer.content.decode()
    assert Job.objects.filter(pk=job.pk).values(*services.DEFINITION).get() == before


def test_saving_the_settings_as_they_are_changes_nothing(operator_client: Client, job: Job) -> None:
    before = Job.objects.filter(pk=job.pk).values(*services.DEFINITION).get()
    operator_client.post(settings_of(job), form_of(operator_client, settings_of(job)))
    assert Job.objects.filter(pk=job.pk).values(*services.DEFINITION).get() == before


def test_the_old_address_of_the_form_still_takes_it(operator_client: Client, job: Job) -> None:
    sent = form_of(operator_client, settings_of(job), timeout_seconds="nonsense")
    refused = operator_client.post(f"/admin/jobs/job/{job.pk}/change/", sent)
    assert "Write a duration such as 90s" in refused.content.decode()
    assert (
        operator_client.post(f"/admin/jobs/job/{job.pk}/change/", {**sent, "timeout_seconds": "90"}).status_code == 302
    )
    job.refresh_from_db()
    assert job.timeout_seconds == 90


@pytest.mark.parametrize(
    ("typed", "seconds", "shown"),
    [("90", 90, "1m 30s"), ("5m", 300, "5m"), ("1h 30m", 5400, "1h 30m"), ("2D", 172_800, "2d"), ("", None, "")],
)
def test_durations_are_read_in_units(
    operator_client: Client, job: Job, typed: str, seconds: int | None, shown: str
) -> None:
    sent = form_of(operator_client, settings_of(job), long_after_seconds=typed)
    assert operator_client.post(settings_of(job), sent).status_code == 302
    job.refresh_from_db()
    assert job.long_after_seconds == seconds
    assert form_of(operator_client, settings_of(job))["long_after_seconds"] == shown


def test_the_overview_says_how_the_job_is_doing(operator_client: Client, job: Job) -> None:
    page = text(operator_client, f"/admin/jobs/job/{job.pk}/change/")
    assert "It starts when its schedule says so" in page
    run = runs.request_run(name=job.name, trigger=Trigger.OPERATOR, requested_by="olga")
    job.runs.filter(pk=run.pk).update(state=State.FAILED, note="exit 3 · no such file", duration=2)
    page = text(operator_client, f"/admin/jobs/job/{job.pk}/live/")
    assert "exit 3 · no such file" in page
    assert f'href="/admin/jobs/jobrun/{run.pk}/change/"' in page
    assert "0 % of the last 1" in page
    assert page.count("12:30 Europe/Berlin") == 5


def test_a_viewer_sees_the_overview_and_no_button(job: Job) -> None:
    viewer = User.objects.create_user("viktor", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)
    page = text(client, f"/admin/jobs/job/{job.pk}/change/")
    assert "Success by day" in page
    for button in ("Run now", "Disable", "Snooze alerts for 8 h"):
        assert f">{button}<" not in page
    assert ">Disable<" not in text(client, "/admin/jobs/job/")
    assert client.post(f"/admin/jobs/job/{job.pk}/snooze/", {"hours": "8"}).status_code == 403
