"""API keys in the admin: made with words for each role, shown once, revoked and never deleted; permissions in words."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.test import Client

from access import keys
from access.models import ApiKey
from core.callers import Role
from events.models import Event
from tasks import services
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]
KEYS = "/admin/lobwife/apikey/"


def test_a_key_of_an_agent_takes_its_task_as_people_write_it(operator_client: Client) -> None:
    task = services.create_task(fields={"name": "a"}, actor="x")
    sent = {"name": "lobster-1", "role": "agent", "task": f"t{task.pk}", "lifetime": "7"}
    made = operator_client.post(f"{KEYS}add/", sent)
    page = made.content.decode()
    assert "no-store" in made["Cache-Control"]
    [secret, *_] = re.findall(r"lw_[0-9a-f]{8}_[\w-]{43}", page)
    assert f"/api/v1/tasks/T{task.pk}" in page
    assert 'data-copy="secret"' in page
    stored = ApiKey.objects.get()
    assert (stored.task_number, stored.expires_at is None) == (task.pk, False)
    for path in (KEYS, f"{KEYS}{stored.pk}/change/"):
        again = text(operator_client, path)
        assert secret not in again
        assert f"/admin/tasks/task/{task.pk}/change/" in again
    refused = operator_client.post(f"{KEYS}add/", {**sent, "name": "other", "task": "the first"})
    assert "Write the task as T42 or 42." in refused.content.decode()


def test_a_key_is_revoked_from_its_page_and_never_deleted(operator_client: Client) -> None:
    keys.create_key(name="ci", role=Role.VIEWER, actor="test")
    key = ApiKey.objects.get()
    page = text(operator_client, f"{KEYS}{key.pk}/change/")
    assert "Reads everything, changes nothing" in page
    assert ">Delete<" not in page
    assert operator_client.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert operator_client.get(f"{KEYS}{key.pk}/revoke/").status_code == 405
    operator_client.post(f"{KEYS}{key.pk}/revoke/")
    key.refresh_from_db()
    assert (key.state, key.revoked_by) == ("revoked", "olga")
    assert "Revoke" not in text(operator_client, f"{KEYS}{key.pk}/change/").partition("<main")[2].replace("Revoked", "")
    assert "ci" in text(operator_client, f"{KEYS}?state=over")


def test_permissions_are_chosen_by_what_they_allow(operator_client: Client) -> None:
    permission = Permission.objects.get(codename="change_task", content_type__app_label="tasks")
    page = " ".join(text(operator_client, "/admin/auth/group/add/").split())
    assert re.search(rf'type="checkbox" name="permissions" value="{permission.pk}"[^>]*> Change task</label>', page)
    sent = {"name": "Night shift", "permissions": [permission.pk]}
    assert operator_client.post("/admin/auth/group/add/", sent).status_code == 302
    assert list(Group.objects.get(name="Night shift").permissions.all()) == [permission]


def test_who_opens_the_api_is_recorded_once_wherever_it_is_done(operator_client: Client) -> None:
    call_command("apikey", "access", "open")
    operator_client.post("/admin/lobwife/accesspolicy/1/change/", {"decided": "required"})
    changes = LogEntry.objects.order_by("pk").values_list("object_repr", "change_message")
    assert [(name, message.partition(" by ")[0]) for name, message in changes] == [
        ("API access: open", "set to open"),
        ("API access: required", "set to required"),
    ]
    command, page = Event.objects.filter(type="admin.changed").order_by("pk")
    assert (str(command.actor).endswith(" (command)"), page.actor) == (True, "olga")
