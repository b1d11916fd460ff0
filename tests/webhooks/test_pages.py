"""Webhooks in the admin, in YAML and by command: the secret is shown once."""

from __future__ import annotations

import io
import json
import pathlib
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

from events.models import Event
from jobs import definitions as job_definitions
from tests.support.pages import text
from tests.support.receiver import receiver
from tests.webhooks.test_deliveries import happen, subscribe, turn
from webhooks import services
from webhooks.models import Delivery, Subscription

pytestmark = pytest.mark.django_db
LIST = "/admin/webhooks/subscription/"
SECRET = re.compile(r"whsec_[A-Za-z0-9+/]+=*")
FIELDS = {"name": "ci", "url": "https://hooks.example.com/x", "types": "run.* task.created", "is_enabled": "on"}


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("webhooks", *arguments, stdout=out)
    return out.getvalue()


def test_a_webhook_is_made_and_its_secret_is_shown_once(operator_client: Client) -> None:
    answer = operator_client.post(f"{LIST}add/", FIELDS | {"task": "T42"})
    [secret] = set(SECRET.findall(answer.content.decode()))
    assert "no-store" in answer.headers["Cache-Control"]
    subscription = Subscription.objects.get()
    assert services.open_secret(subscription) == secret
    assert (subscription.types, subscription.task_id) == (["run.*", "task.created"], 42)
    page = f"{LIST}{subscription.pk}/change/"
    for path in (LIST, page, "/admin/webhooks/delivery/"):
        assert not SECRET.search(text(operator_client, path))
    again = operator_client.post(f"{LIST}{subscription.pk}/secret/").content.decode()
    assert secret not in again
    assert services.open_secret(Subscription.objects.get()) == SECRET.findall(again)[0]
    assert not Event.objects.filter(data__icontains="whsec").exists()
    assert list(Event.objects.values_list("type", flat=True)) == ["admin.changed"] * 2


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("url", "http://hooks.example.com/", "It must begin with https://"),
        ("types", "nothing.*", "is no type of event"),
        ("task", "42x", "Write the task as T42"),
    ],
)
def test_what_could_not_work_is_refused_at_its_field(
    operator_client: Client, field: str, value: str, sentence: str
) -> None:
    assert sentence in operator_client.post(f"{LIST}add/", FIELDS | {field: value}).content.decode()
    assert not Subscription.objects.exists()


def test_a_page_shows_each_delivery_with_its_answer_and_sends_it_again(operator_client: Client) -> None:
    with receiver() as place:
        subscription, _ = subscribe(place.port)
        happen("nightly")
        deliveries = Delivery.objects.filter(subject="nightly")
        place.status = 503
        turn(subscription)
        assert "it answered 503" in text(operator_client, f"{LIST}{subscription.pk}/change/")
        delivery = deliveries.get()
        page = f"/admin/webhooks/delivery/{delivery.pk}/change/"
        assert (
            "others wait for it"
            in operator_client.post(f"/admin/webhooks/delivery/{delivery.pk}/again/", follow=True).content.decode()
        )
        place.status = 200
        operator_client.post(f"{LIST}{subscription.pk}/resume/")
        turn(subscription)
        assert "Send again" in text(operator_client, page)
        operator_client.post(f"/admin/webhooks/delivery/{delivery.pk}/again/")
        turn(subscription)
        assert deliveries.get().attempts == 3
        assert [json.loads(body)["subject"] for body in place.bodies] == ["nightly", "nightly", "ci", "nightly"]
    assert "admin.changed of nightly" in text(operator_client, "/admin/webhooks/delivery/")


def test_a_viewer_can_press_nothing(client: Client) -> None:
    viewer = User.objects.create_user("vic", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(viewer)
    subscription, _ = subscribe(9)
    assert "New secret" not in text(client, f"{LIST}{subscription.pk}/change/")
    for path in ("secret", "resume"):
        assert client.post(f"{LIST}{subscription.pk}/{path}/").status_code == 403
    assert client.post("/admin/webhooks/delivery/1/again/").status_code == 403


def test_webhooks_are_written_as_yaml_and_read_back_beside_the_jobs(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(
        "jobs:\n  hello: {script: hello.py, schedule: '@daily'}\n"
        "webhooks:\n  ci: {url: 'https://hooks.example.com/x', types: [run.*], job: hello, task: T7}\n"
    )
    assert len(job_definitions.plan_import(file.read_text()).made) == 1
    made = command("import", str(file))
    secret = services.open_secret(Subscription.objects.get())
    assert f"The secret of ci, shown this once: {secret}" in made
    file.write_text(command("export"))
    assert "whsec" not in file.read_text()
    assert "0 made, 0 changed, 1 as they were." in command("import", str(file))
    file.write_text(file.read_text().replace("hello", "other"))
    assert "0 made, 1 changed" in command("import", str(file))
    assert services.open_secret(Subscription.objects.get()) == secret
    assert "other" in command("export")
    assert command("secret", "ci").strip() != secret
    for wrong in ("{url: 'http://x.example/'}", "{url: 'https://x/', types: []}", "{}", "{url: 'https://x/', task: x}"):
        file.write_text(f"webhooks: {{good: {{url: 'https://a.example/'}}, bad: {wrong}}}")
        with pytest.raises(CommandError, match="webhook bad"):
            command("import", str(file))
    assert Subscription.objects.count() == 1


def test_what_commands_do_to_a_webhook_is_recorded(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "webhooks.yaml"
    for url in ("https://hooks.example.com/x", "https://hooks.example.com/y"):
        file.write_text(f"webhooks:\n  ci:\n    url: {url}\n")
        command("import", str(file))
    command("secret", "ci")
    command("resume", "ci")
    messages = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert [message.partition(" by ")[0] for message in messages] == [
        *("imported", "changed with an import", "given a new secret", "resumed"),
    ]
    assert list(Event.objects.values_list("type", "subject")) == [("admin.changed", "ci")] * 4
    assert not Event.objects.filter(data__icontains="whsec").exists()


def test_a_webhook_whose_secret_can_t_be_read_is_paused_and_says_so(operator_client: Client) -> None:
    subscription, _ = subscribe(9)
    Subscription.objects.update(encrypted="of another key")
    happen("a")
    turn(subscription)
    assert "make a new one, then resume" in text(operator_client, f"{LIST}{subscription.pk}/change/")
    operator_client.post(f"{LIST}{subscription.pk}/secret/")
    assert command("resume", "ci") == "ci is resumed.\n"
    assert command() == "ci\tenabled\thttp://127.0.0.1:9/hook\t\n"
