"""What is secret leaves no page, no export and no answer, whoever asks: a canary in each column that holds a secret."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from access.keys import create_key
from access.models import ApiKey
from broker.models import IssuedToken
from core.callers import Role
from jobs.models import Alert, Job, JobRun, State, Trigger
from jobs.secrets import set_secret
from tests.support.access import mounted

CANARY = "c4n4ryS3cr3tV4lue"
"""A part of each secret."""
STORED = "STORED_SECRET"


@pytest.fixture
def job(db: None) -> Job:
    """A job as somebody's hand may have left it in the database, with secrets wherever one fits."""
    job = Job.objects.create(name="leaky", script="hello.py", schedule="@daily")
    environment = {"DEPLOY_TOKEN": f"{CANARY}-name", "PLAIN": f"ghp_{CANARY}0123456789", "DSN": f"pg://u:{CANARY}@h/d"}
    Job.objects.filter(pk=job.pk).update(
        alert_urls=f"discord://123/{CANARY}-alert\njson://host/{CANARY}",
        ping_url=f"https://hc.example/{CANARY}-ping",
        environment=environment,
    )
    run = JobRun.objects.create(
        job=job,
        trigger=Trigger.SCHEDULE,
        state=State.SUCCESS,
        queued_at=timezone.now(),
        definition={"script": "hello.py", "environment": environment, "arguments": []},
    )
    Alert.objects.create(
        kind="failing",
        job_name=job.name,
        run=run,
        title="leaky fails",
        body="it failed",
        destination="discord://…",
        fingerprint="0" * 32,
        created_at=timezone.now(),
        next_attempt_at=timezone.now(),
    )
    Job.objects.filter(pk=job.pk).update(secrets=[STORED])
    set_secret(name=STORED, value=f"{CANARY}-stored", actor="a test")
    create_key(name="other", role=Role.OPERATOR, actor="a test")
    ApiKey.objects.update(digest=f"{CANARY}-digest")
    IssuedToken.objects.create(
        **dict.fromkeys(("encrypted", "sha256", "scope_digest"), CANARY),
        **dict.fromkeys(("minted_at", "expires_at", "refresh_at"), timezone.now()),
        **{"key": "task:1", "requested_id": "T1", "generation": 0, "repos": "[]", "permissions": "{}", "event_id": 0},
    )
    job.refresh_from_db()
    return job


def person(name: str, group: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get_or_create(name=group)[0])
    client = Client()
    client.force_login(user)
    client.get("/admin/")
    return client


def pages() -> Iterator[str]:
    """Every page of the admin that shows rows: lists, with and without a search, forms, histories, deletions."""
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"{name}_changelist")
        yield reverse(f"{name}_changelist") + "?q=leaky"
        for row in model._default_manager.all()[:3]:
            for view in ("change", "history", "delete"):
                yield reverse(f"{name}_{view}", args=[row.pk])
    for view in ("activity", "search", "live_dashboard"):
        try:
            yield reverse(f"admin:{view}") + "?q=leaky"
        except NoReverseMatch:
            continue


@pytest.mark.parametrize("group", ["Viewers", "Operators"])
def test_no_page_shows_a_secret_to_anybody(job: Job, group: str) -> None:
    client = person("walker", group)
    seen = 0
    for path in pages():
        answer = client.get(path)
        assert answer.status_code in {200, 302, 403}, path
        assert CANARY not in answer.content.decode(), path
        seen += answer.status_code == 200
    assert seen > 20


@pytest.mark.parametrize("role", list(Role))
def test_no_answer_of_rest_has_a_secret_for_any_role(job: Job, role: Role) -> None:
    key = create_key(name="walker", role=role, actor="a test", task_number=1 if role is Role.AGENT else None)
    client = Client(REMOTE_ADDR="10.9.8.7", headers={"Authorization": f"Bearer {key}"})
    run = JobRun.objects.get(job=job)
    for method, route in mounted():
        if method == "GET":
            path = "/" + route.replace("<task_id>", "1").replace("<run_id>", str(run.pk)).replace("<name>", job.name)
            assert CANARY not in client.get(path).content.decode(), path


def test_no_export_has_a_secret(job: Job, tmp_path: pathlib.Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text("jobs: {leaky: {script: hello.py, schedule: '@hourly'}}")
    call_command("secrets", stdout=(names := io.StringIO()))
    assert STORED in names.getvalue()
    assert CANARY not in names.getvalue()
    for arguments in (
        ["export"],
        [],
        ["leaky"],
        ["leaky", "--json"],
        ["--json"],
        ["import", str(changed), "--dry-run"],
    ):
        out = io.StringIO()
        call_command("jobs", *arguments, stdout=out)
        assert CANARY not in out.getvalue(), arguments
        assert out.getvalue()


def test_an_export_with_secrets_has_the_urls(job: Job) -> None:
    out = io.StringIO()
    call_command("jobs", "export", "--secrets", stdout=out)
    assert f"https://hc.example/{CANARY}-ping" in out.getvalue()
