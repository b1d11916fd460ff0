"""Characters that nobody sees, in what programs wrote: pages show them, and leave what is stored as it is."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from broker.models import TokenAudit
from core.timestamps import utc_now
from jobs.models import Alert, Job, JobRun
from tasks import services
from tasks.models import Task
from vaultsync.models import NoteProblem

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]
SPOOF = "photo\u202egpj.exe"
SHOWN = "photo‹U+202E›gpj.exe"
SENT_BACK = re.compile(r'<textarea.*?</textarea>|\bvalue="[^"]*"', re.DOTALL)


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


def page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


def spoofed() -> Task:
    """The same name wherever others choose one."""
    fields = {"name": SPOOF, "assigned_to": SPOOF, "repos": ["acme/web"], "status": "active"}
    task = services.create_task(fields=fields, actor=SPOOF)
    services.log_event(task_id=task.pk, event_type="note", detail=SPOOF, actor=SPOOF)
    Task.objects.update(broker_repos='["acme/web"]', broker_status="active")
    job = Job.objects.get(name="review-prs")
    Job.objects.update(description=SPOOF, script=SPOOF)
    run = {"trigger": "rest", "requested_by": SPOOF, "note": SPOOF, "queued_at": utc_now()}
    JobRun.objects.create(job=job, state="skipped", definition={"script": SPOOF, "arguments": [SPOOF]}, **run)
    alert = {"kind": "failing", "body": SPOOF, "destination": "", "created_at": utc_now(), "next_attempt_at": utc_now()}
    Alert.objects.create(title=SPOOF, fingerprint="", **alert)
    TokenAudit.objects.create(task_id=SPOOF, action="token_refused", outcome="refused", reason=SPOOF, identity=SPOOF)
    NoteProblem.objects.create(path=SPOOF, kind="unreadable", sentence=SPOOF, since=utc_now())
    return task


def test_no_page_of_the_admin_hides_a_character(operator: Client) -> None:
    task = spoofed()
    job, run = Job.objects.get(name="review-prs"), JobRun.objects.get()
    for path in (
        *("/admin/", "/admin/live/dashboard/", "/admin/activity/", "/admin/search/?q=photo", "/admin/tasks/task/"),
        *(f"/admin/tasks/task/{task.pk}/change/", f"/admin/tasks/task/{task.pk}/live/", "/admin/tasks/taskevent/"),
        *("/admin/jobs/jobrun/", f"/admin/jobs/jobrun/{run.pk}/change/", "/admin/jobs/alert/"),
        *("/admin/broker/taskregistration/", "/admin/broker/tokenaudit/", "/admin/vaultsync/noteproblem/"),
        *("/admin/vaultsync/vaultstate/", f"/admin/jobs/job/{job.pk}/delete/"),
    ):
        answer = operator.get(path, follow=True).content.decode()
        assert "\u202e" not in SENT_BACK.sub("", answer), path
        if path != "/admin/" and "delete" not in path and "dashboard" not in path:
            assert SHOWN in answer, path
    asked = {"action": "cancel", "_selected_action": [task.pk]}
    assert SHOWN in operator.post("/admin/tasks/task/", asked).content.decode()


def test_what_is_stored_sent_back_and_given_to_programs_stays(operator: Client) -> None:
    task = spoofed()
    path = f"/admin/tasks/task/{task.pk}/edit/"
    form = dict(re.findall(r'name="([^"]+)"[^>]* value="([^"]*)"', page(operator, path)))
    assert form["name"] == form["initial-name"] == SPOOF
    sent = {name: form[name] for name in form if not name.startswith(("_", "csrf"))}
    sent |= {"status": "active", "initial-status": "active", "priority": "high"}
    sent |= {"repos": "acme/web", "initial-repos": "acme/web", "workflow": "", "initial-workflow": ""}
    assert operator.post(path, sent).status_code == 302
    stored = Task.objects.get(pk=task.pk)
    assert (stored.name, stored.assigned_to, stored.priority) == (SPOOF, SPOOF, "high")
    answer = Client(REMOTE_ADDR="127.0.0.1").get(f"/api/v1/tasks/{task.pk}")
    assert (answer.json()["name"], "‹" in answer.content.decode()) == (SPOOF, False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT detail FROM task_events WHERE event_type = 'note'")
        assert cursor.fetchone() == (SPOOF,)


def test_a_name_can_not_pass_for_what_a_form_sends_back(operator: Client) -> None:
    services.create_task(fields={"name": f' value="{SPOOF}" <textarea>{SPOOF}</textarea>'}, actor="x")
    assert page(operator, "/admin/tasks/task/").count(SHOWN) >= 2
