"""The page of alerts: where they go, a test that arrives, what was not sent and why, acknowledging and snoozing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.test import Client

from core.timestamps import utc_now
from jobs import secret_fields, services
from jobs.alerts.delivery import AlertSender
from jobs.execution import runs
from jobs.execution.runs import Ending, Process
from jobs.models import Alert, Delivery, Job, State, Trigger
from tests.support.pages import text
from tests.support.receiver import Receiver, receiver

pytestmark = pytest.mark.django_db
ALERTS = "/admin/jobs/alert/"


@pytest.fixture
def place() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def job(settings: LazySettings, place: Receiver) -> Job:
    settings.ALERT_URLS = (f"json://127.0.0.1:{place.port}/a-secret-path",)
    return services.define_job(fields={"name": "import", "script": "hello.py", "schedule": "@daily"}, actor="t")


def fail(job: Job) -> None:
    run = runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="t")
    assert runs.record_start(run, Process(1, 1, "a boot"))
    runs.record_end(run, Ending(State.FAILED, exit_code=3, duration=1.0))


def test_a_test_is_sent_to_a_destination_that_nobody_sees(operator_client: Client, job: Job, place: Receiver) -> None:
    page = text(operator_client, ALERTS)
    assert "json://127.0.0.1/…" in page
    assert "a-secret-path" not in page
    url = f"json://127.0.0.1:{place.port}/a-secret-path"
    answer = operator_client.post(f"{ALERTS}test/", {"destination": secret_fields.fingerprint(url)}, follow=True)
    assert "is on its way" in answer.content.decode()
    AlertSender().tick()
    [body] = place.bodies
    assert "olga sent a test" in json.loads(body)["message"]
    assert Alert.objects.get().state == Delivery.SENT
    unknown = operator_client.post(f"{ALERTS}test/", {"destination": "0" * 32})
    assert unknown.status_code == 404


def test_without_a_destination_the_page_says_that_nobody_is_told(
    operator_client: Client, settings: LazySettings
) -> None:
    settings.ALERT_URLS = ()
    page = text(operator_client, ALERTS)
    assert "Nobody is told of anything" in page
    assert "discord://WEBHOOK_ID/WEBHOOK_TOKEN" in page


def test_what_was_not_sent_says_why_and_is_tried_again_at_once(
    operator_client: Client, job: Job, place: Receiver
) -> None:
    place.status = 500
    fail(job)
    AlertSender().tick()
    page = text(operator_client, ALERTS)
    assert "1 alert could not be sent yet" in page
    assert "the destination answered 500" in page
    place.status = 200
    alert = Alert.objects.get()
    operator_client.post(f"{ALERTS}{alert.pk}/again/")
    AlertSender().tick()
    assert Alert.objects.get().state == Delivery.SENT


def test_an_alert_leads_to_its_run(job: Job, settings: LazySettings) -> None:
    settings.PUBLIC_URL = "https://ops.example.com"
    fail(job)
    alert = Alert.objects.get()
    assert alert.body.endswith(f"https://ops.example.com/admin/jobs/jobrun/{alert.run_id}/change/")
    assert "failed (exit 3)" in alert.body


def test_alerts_of_a_snoozed_job_are_recorded_and_not_sent(operator_client: Client, job: Job, place: Receiver) -> None:
    operator_client.post(f"/admin/jobs/job/{job.pk}/snooze/", {"hours": "8"})
    job.refresh_from_db()
    assert job.alerts_snoozed_until is not None
    assert job.alerts_snoozed_until - utc_now() > timedelta(hours=7)
    fail(job)
    AlertSender().tick()
    assert (Alert.objects.get().state, place.bodies) == (Delivery.SNOOZED, [])
    assert "snoozed until" in text(operator_client, ALERTS)
    operator_client.post(f"/admin/jobs/job/{job.pk}/snooze/", {"hours": "0"})
    job.refresh_from_db()
    assert job.alerts_snoozed_until is None
    assert operator_client.post(f"/admin/jobs/job/{job.pk}/snooze/", {"hours": "9999"}, follow=True).status_code == 200
    job.refresh_from_db()
    assert job.alerts_snoozed_until is None


def test_an_alert_is_acknowledged_by_somebody(operator_client: Client, job: Job) -> None:
    fail(job)
    alert = Alert.objects.get()
    operator_client.post(ALERTS, {"action": "acknowledge", "_selected_action": alert.pk})
    alert.refresh_from_db()
    assert alert.acknowledged_by == "olga"
    assert "import fails" not in text(operator_client, f"{ALERTS}?acknowledged=no").partition("What was sent")[2]
