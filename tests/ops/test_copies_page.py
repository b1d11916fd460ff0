"""The page of copies: what is kept and how old it is, and a button that makes one; for superusers."""

from __future__ import annotations

import pathlib
import re

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import Settings

from core.sqlite.copies import newest_copy
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite("copies of the file")]


def test_a_superuser_makes_a_copy_and_sees_how_old_it_is(
    operator_client: Client, settings: Settings, tmp_path: pathlib.Path
) -> None:
    settings.STATE_DIR = tmp_path
    try:
        assert "There is no copy yet." in text(operator_client, "/admin/copies/")
        assert operator_client.post("/admin/copies/").status_code == 302
    finally:
        newest_copy().unlink(missing_ok=True)
    page = text(operator_client, "/admin/copies/")
    (name,) = [path.name for path in (tmp_path / "backups").glob("*.gz")]
    assert f"Kept as {name}." in page
    assert re.search(r"<time [^>]*>[^<]*(now|ago)</time></td><td>by hand", page)
    assert 'href="/admin/copies/"' in text(operator_client, "/admin/")


def test_others_neither_see_nor_make_copies(client: Client, settings: Settings, tmp_path: pathlib.Path) -> None:
    settings.STATE_DIR = tmp_path
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    client.force_login(user)
    assert client.get("/admin/copies/").status_code == 403
    assert client.post("/admin/copies/").status_code == 403
    assert not list(tmp_path.iterdir())
