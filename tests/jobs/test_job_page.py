"""The overview of a job and its settings: what people write, and what is stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from jobs import services
from jobs.execution import runs
from jobs.models import Job, State, Trigger
from tests.support.pages import text

pytestmark = pytest.mark.django_db


@pytest.fixture
def job() -> Job:
    fields: dict[str, Any] = {"name": "import", "script": "hello.py", "schedule": "30 2 * * *"}
    fields |= {"timezone": "Europe/Berlin", "timeout_seconds": 5400, "arguments": ["--day", "two words"]}
    return services.define_job(fields={**fields, "environment": {"MODE": "full"}}, actor="t")


def form_of(client: Client, job: Job, **changes: str) -> dict[str, str]:
    """What a browser sends of the settings, with some fields changed."""
    page = client.get(f"/admin/jobs/job/{job.pk}/settings/")
    sent = {}
    for bound in page.context["adminform"].form:
        value = bound.value()
        sent[bound.html_name] = sent[bound.html_initial_name] = "" if value is None else str(value)
    return {**sent, **changes}


def test_the_settings_are_shown_as_people_write_them(operator_client: Client, job: Job) -> None:
    sent = form_of(operator_client, job)
    assert (sent["timeout_seconds"], sent["arguments"]) == ("1h 30m", "--day 'two words'")
    assert (sent["environment"], sent["retry_delay_seconds"]) == ("MODE=full", "30s")
    page = text(operator_client, f"/admin/jobs/job/{job.pk}/settings/")
    assert '<option value="hello.py">' in page
    assert "Wed" in page or "Thu" in page
    assert "Europe/Berlin" in page


def test_what_was_typed_is_stored_as_the_daemon_reads_it(operator_client: Client, job: Job) -> None:
    changes = {"timeout_seconds": "5m", "arguments": "--full 'a b'", "environment": "MODE=x=y\n\nEMPTY=\n"}
    sent = form_of(operator_client, job, **changes, late_after_seconds="2h", secrets="")
    assert operator_client.post(f"/admin/jobs/job/{job.pk}/settings/", sent).status_code == 302
    job.refresh_from_db()
    assert (job.timeout_seconds, job.late_after_seconds) == (300, 7200)
    assert (job.arguments, job.environment) == (["--full", "a b"], {"MODE": "x=y", "EMPTY": ""})


def test_saving_the_settings_as_they_are_changes_nothing(operator_client: Client, job: Job) -> None:
    before = Job.objects.filter(pk=job.pk).values(*services.DEFINITION).get()
    operator_client.post(f"/admin/jobs/job/{job.pk}/settings/", form_of(operator_client, job))
    assert Job.objects.filter(pk=job.pk).values(*services.DEFINITION).get() == before


def test_the_old_address_of_the_form_still_takes_it(operator_client: Client, job: Job) -> None:
    sent = form_of(operator_client, job, timeout_seconds="nonsense")
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
    sent = form_of(operator_client, job, long_after_seconds=typed)
    assert operator_client.post(f"/admin/jobs/job/{job.pk}/settings/", sent).status_code == 302
    job.refresh_from_db()
    assert job.long_after_seconds == seconds
    assert form_of(operator_client, job)["long_after_seconds"] == shown


def test_the_overview_says_how_the_job_is_doing(operator_client: Client, job: Job) -> None:
    page = text(operator_client, f"/admin/jobs/job/{job.pk}/change/")
    assert "It starts when its schedule says so" in page
    run = runs.request_run(name=job.name, trigger=Trigger.OPERATOR, requested_by="olga")
    job.runs.filter(pk=run.pk).update(state=State.FAILED, note="exit 3 · no such file", duration=2)
    page = text(operator_client, f"/admin/jobs/job/{job.pk}/live/")
    assert "exit 3 · no such file" in page
    assert f'href="/admin/jobs/jobrun/{run.pk}/change/"' in page
    assert "0 % of the last 1" in page
    assert page.count("02:30 Europe/Berlin") == 5


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
