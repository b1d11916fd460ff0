"""The vault in the admin: its own page, and what a task's page tells of its note."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.support.git_remote import World, change, note_of, task
from vaultsync.models import SyncRequest

pytestmark = pytest.mark.django_db


def test_the_admin_page_shows_the_state_and_asks_for_syncs(world: World, client: Client) -> None:
    User.objects.create_superuser("root", password="x")  # noqa: S106
    client.force_login(User.objects.get())
    page = "/admin/vaultsync/vaultstate/"
    assert "not synced" in client.get(page).content.decode()
    made = task()
    world.synced()
    world.write(note_of(made), "---\na: b: c\n---\n")
    change(made, priority="high")
    world.synced()
    page_text = client.get(page).content.decode()
    assert note_of(made) in page_text
    assert f'href="/admin/tasks/task/{made.pk}/change/">{note_of(made)}</a>' in page_text
    assert "not valid YAML" in page_text
    assert client.get("/admin/vaultsync/vaultstate/request/").status_code == 405
    client.post("/admin/vaultsync/vaultstate/request/", {"full": "1"})
    assert SyncRequest.objects.get().full is True
    assert SyncRequest.objects.get().requested_by == "root"


def test_a_task_s_page_tells_of_its_note(world: World, client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    made = task()
    page = f"/admin/tasks/task/{made.pk}/live/"
    assert "the vault is not synced" in client.get(page).content.decode()
    world.synced()
    page_text = client.get(page).content.decode()
    assert note_of(made) in page_text
    assert ">synced<" in page_text
    world.write(note_of(made), "---\na: b: c\n---\n")
    change(made, priority="high")
    assert ">waiting<" in client.get(page).content.decode()
    world.synced()
    assert "not valid YAML" in client.get(page).content.decode()


def test_who_may_only_look_can_not_ask(world: World, client: Client) -> None:
    world.synced()
    reader = User.objects.create_user("reader", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_vaultstate"))
    client.force_login(reader)
    assert "Sync now" not in client.get("/admin/vaultsync/vaultstate/").content.decode()
    assert client.post("/admin/vaultsync/vaultstate/request/").status_code == 403
