"""Secrets of scripts: they go in, reach the scripts whose jobs name them, and are nowhere else."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from django.utils import timezone

from core.errors import Conflict, Invalid
from jobs import secrets, services
from jobs.models import Job, JobRun, Secret, State, Trigger
from lobwife.daemon.upkeep import upkeep
from tests.support import processes
from tests.support.installation import ROOT, Installation, wait_for
from tests.support.jobs import define, ended, output_of, trigger
from webhooks import services as webhooks

VALUE = "correct-horse-battery-staple"
PEM = "line-one-of-a-key\nline-two-of-a-key"
SCRIPTS = {
    "uses.sh": 'printf "%s" "$DEPLOY_PASS" | sha256sum; echo "it is $DEPLOY_PASS, $OTHER"'
    '; until [ -e "$GO_ON" ]; do sleep 0.05; done',
    "looks.sh": "env | cut -d= -f1 | grep -E '^(GH_APP|LOBWIFE_(SECRET|ALERT)|DJANGO_SUPER|DISCORD_BOT)'; echo over",
}
WITHHELD = {
    "GH_APP_PEM": "cGVt",
    "GH_APP_PEM_2_FILE": "/nowhere/key",
    "LOBWIFE_SECRET_KEY_FALLBACKS": "an-older-key-that-is-long-enough-0123456789-abcdefghijklmnopqrstuvwxyz-ABC",
    "DJANGO_SUPERUSER_PASSWORD": "olga-pass",
    "DISCORD_BOT_TOKEN": "a-bots-token",
    "LOBWIFE_ALERT_URLS": "json://127.0.0.1:9/a-receivers-token",
}


def set_from_stdin(installation: Installation, name: str, value: str) -> None:
    command = [sys.executable, str(ROOT / "manage.py"), "secrets", "set", name]
    done = subprocess.run(command, input=value, env=installation.environment, capture_output=True, text=True)
    assert done.stdout == f"Secret {name} is set.\n", done.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("secrets"), **WITHHELD)
    try:
        made.migrate()
        for name, text in SCRIPTS.items():
            made.script(name, text)
        set_from_stdin(made, "DEPLOY_PASS", f"{VALUE}\n")
        set_from_stdin(made, "KEY_FILE", PEM)
        define(
            made,
            {
                "name": "uses",
                "script": "uses.sh",
                "secrets": ["DEPLOY_PASS", "OTHER=KEY_FILE"],
                "environment": {"GO_ON": str(made.folder / "go-on")},
            },
            {"name": "looks", "script": "looks.sh"},
            {"name": "asks", "script": "looks.sh", "secrets": ["DISCORD_BOT_TOKEN"]},
            {"name": "lacks", "script": "looks.sh", "secrets": ["NOWHERE"]},
        )
        made.start_web()
        made.start_daemon()
        yield made
    finally:
        made.stop()


@pytest.mark.django_db
def test_secrets_survive_a_rotated_secret_key_once_they_are_encrypted_anew() -> None:
    old, new = "the-old-key" * 5, "the-new-key" * 5
    with override_settings(SECRET_KEY=old):
        secrets.set_secret(name="DEPLOY_PASS", value=VALUE, actor="olga")
        webhook, signs_with = webhooks.create(name="ci", fields={"url": "https://example.com/"})
    with override_settings(SECRET_KEY=new, SECRET_KEY_FALLBACKS=[old]):
        secrets.set_secret(name="NEWER", value=PEM, actor="olga")
        newer = Secret.objects.get(name="NEWER").encrypted
        encrypt, _ = upkeep()["encrypt secrets anew"]
        encrypt()
    assert Secret.objects.get(name="NEWER").encrypted == newer, "what the new key can read stays as it is"
    with override_settings(SECRET_KEY=new):
        assert secrets.open_all(["DEPLOY_PASS", "NEWER"]) == {"DEPLOY_PASS": VALUE, "NEWER": PEM}
        webhook.refresh_from_db()
        assert webhooks.open_secret(webhook) == signs_with


def test_a_script_gets_its_secrets_and_nothing_else_has_them(running: Installation) -> None:
    run = trigger(running, "uses")
    wait_for(lambda: "it is" in output_of(running, run), 15, "the script has printed")
    assert not [process for process in processes.running() if VALUE in process.command]
    (running.folder / "go-on").touch()
    assert ended(running, run)["state"] == "success"
    printed = output_of(running, run)
    assert printed.startswith(hashlib.sha256(VALUE.encode()).hexdigest())
    assert "it is [masked], [masked]\n[masked]\n" in printed
    assert VALUE not in running.manage("jobs", "export", "--secrets").stdout
    for path in running.state.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert VALUE.encode() not in content, path
            assert b"line-two-of-a-key" not in content, path


def test_scripts_get_no_key_of_the_service(running: Installation) -> None:
    run = trigger(running, "looks")
    assert ended(running, run)["state"] == "success"
    assert output_of(running, run).split() == ["over"]


def test_a_job_that_names_the_bots_token_gets_it(running: Installation) -> None:
    run = trigger(running, "asks")
    assert ended(running, run)["state"] == "success"
    assert output_of(running, run).split() == ["DISCORD_BOT_TOKEN", "over"]


def test_a_run_without_its_secret_says_how_to_set_it(running: Installation) -> None:
    run = ended(running, trigger(running, "lacks"))
    assert (run["state"], run["note"]) == ("error", "there is no secret NOWHERE: `manage.py secrets set NOWHERE`")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEPLOY_TOKEN", "x1"),
        ("PLAIN", "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"),
        ("DSN", "postgres://user:pa55word@host/db"),
        ("HEADER", "Authorization: Bearer abcdef0123456789"),
    ],
)
@pytest.mark.django_db
def test_an_environment_takes_no_secret_and_says_where_it_belongs(name: str, value: str) -> None:
    with pytest.raises(Invalid, match=f"environment: {name} looks like a secret.*manage.py secrets set {name}"):
        services.define_job(
            fields={"name": "x", "script": "x.sh", "schedule": "@daily", "environment": {name: value}}, actor="a test"
        )


@pytest.mark.django_db
def test_an_environment_takes_what_only_sounds_like_one() -> None:
    environment = {"MAX_TOKENS": "4096", "USE_KEYRING": "false", "TOKEN_PATH": "/run/token", "FORMAT": "text"}
    fields = {"name": "x", "script": "x.sh", "schedule": "@daily", "environment": environment}
    assert services.define_job(fields=fields, actor="a test").environment == environment


@pytest.mark.django_db
def test_the_upgrade_moves_secrets_out_of_environments_and_masks_old_runs() -> None:
    def job(name: str, **environment: str) -> Job:
        made = Job.objects.create(name=name, script="x.sh", schedule="@daily")
        Job.objects.filter(pk=made.pk).update(environment=environment)
        return made

    first = job("first", MY_TOKEN="aaa", FORMAT="text")
    same = job("same", MY_TOKEN="aaa")
    other = job("other", MY_TOKEN="bbb")

    def run(state: State, **environment: str) -> JobRun:
        definition = {"script": "x.sh", "arguments": [], "environment": environment}
        return JobRun.objects.create(
            job=first, trigger=Trigger.SCHEDULE, state=state, queued_at=timezone.now(), definition=definition
        )

    over, queued = run(State.FAILED, MY_TOKEN="old", FORMAT="text"), run(State.QUEUED, MY_TOKEN="aaa")
    importlib.import_module("jobs.migrations.0005_move_secrets").move(apps, None)
    for row in (first, same, other, over, queued):
        row.refresh_from_db()
    assert (first.environment, first.secrets) == ({"FORMAT": "text"}, ["MY_TOKEN"])
    assert (same.environment, same.secrets) == ({}, ["MY_TOKEN"])
    assert (other.environment, other.secrets) == ({}, [f"MY_TOKEN=JOB{other.pk}_MY_TOKEN"])
    assert secrets.open_all(first.secrets) == {"MY_TOKEN": "aaa"}
    assert secrets.open_all(other.secrets) == {"MY_TOKEN": "bbb"}
    assert over.definition["environment"] == {"MY_TOKEN": "[masked]", "FORMAT": "text"}
    assert secrets.open_all(queued.definition["secrets"]) == {"MY_TOKEN": "aaa"}


@pytest.mark.django_db
def test_a_secret_that_a_job_names_can_not_be_removed() -> None:
    secrets.set_secret(name="A_TOKEN", value="aaa", actor="a test")
    fields = {"name": "x", "script": "x.sh", "schedule": "@daily", "secrets": ["V=A_TOKEN"]}
    services.define_job(fields=fields, actor="a test")
    with pytest.raises(Conflict, match="used by x"):
        secrets.remove_secret(name="A_TOKEN", actor="a test")
    services.delete_job(name="x", actor="a test")
    secrets.remove_secret(name="A_TOKEN", actor="a test")
    assert not Secret.objects.exists()


def test_secrets_are_write_only_in_the_admin(operator_client: Client) -> None:
    add = operator_client.post("/admin/jobs/secret/add/", {"name": "A_TOKEN", "value": VALUE})
    assert add.status_code == 302
    secret = Secret.objects.get()
    assert (secret.name, secret.changed_by, secrets.open_all(["A_TOKEN"])) == ("A_TOKEN", "olga", {"A_TOKEN": VALUE})
    page = f"/admin/jobs/secret/{secret.pk}/change/"
    assert VALUE not in operator_client.get(page).content.decode()
    refused = operator_client.post("/admin/jobs/secret/add/", {"name": "9 x", "value": VALUE})
    assert refused.status_code == 200
    assert VALUE not in refused.content.decode()
    assert operator_client.post(page, {"value": "another-value"}).status_code == 302
    assert secrets.open_all(["A_TOKEN"]) == {"A_TOKEN": "another-value"}
    messages = LogEntry.objects.values_list("change_message", flat=True)
    assert not [message for message in messages if VALUE in message or "another-value" in message]
    assert operator_client.post(f"/admin/jobs/secret/{secret.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Secret.objects.exists()
