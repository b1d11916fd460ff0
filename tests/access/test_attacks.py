"""Attacks on people's pages: what a page shows, where a sign-in leads, how keys are compared."""

from __future__ import annotations

from hmac import compare_digest as really_compare

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.test.utils import override_settings

from access import keys, policy
from core.callers import Role
from tests.support.installation import Installation

REMOTE = "10.9.8.7"
PASSWORD = "correct-horse-battery"
BACKEND = "access.authentication.RoleBackend"


@pytest.mark.usefixtures("seeded")
def test_what_a_stranger_calls_itself_is_text_on_the_pages_that_list_it() -> None:
    policy.decide(mode="open", actor="test")
    program = "<script>alert(1)</script>\x1b[31m"
    Client(REMOTE_ADDR=REMOTE, headers={"User-Agent": program}).get("/api/v1/tasks")
    operator = Client()
    operator.force_login(User.objects.create_superuser("root"), BACKEND)
    for path in ("/admin/lobwife/uncredentialedcaller/", "/admin/lobwife/accesspolicy/1/change/"):
        page = operator.get(path).content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page, path
        assert "<script>alert" not in page, path


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_to_no_other_site(target: str) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    form = {"username": "root", "password": PASSWORD, "next": target}
    answer = Client().post("/admin/login/", form)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/admin/"


@pytest.mark.usefixtures("seeded")
def test_every_wrong_key_is_hashed_and_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    good = keys.create_key(name="good", role=Role.VIEWER, actor="test")
    revoked = keys.create_key(name="revoked", role=Role.VIEWER, actor="test")
    keys.revoke_key(name="revoked", actor="test")
    compared: list[int] = []

    def compare(one: str, other: str) -> bool:
        compared.append(len(one) == len(other))
        return really_compare(one, other)

    monkeypatch.setattr("access.keys.hmac.compare_digest", compare)
    wrong, unknown = good[:-2] + "AA", "lw_00000000" + good[11:]
    for key in (wrong, unknown, revoked, "lw_", "x" * 5000):
        compared.clear()
        assert keys.authenticate(key, REMOTE) is None
        assert compared == [True], key


@pytest.mark.usefixtures("seeded")
def test_a_viewer_looks_and_changes_nothing() -> None:
    viewer = User.objects.create_user("eve", password=PASSWORD, is_staff=True)
    viewer.groups.create(name="Some other group")
    client = Client()
    client.force_login(viewer, BACKEND)
    assert client.get("/admin/lobwife/apikey/").status_code == 403
    viewer.groups.add(viewer.groups.model.objects.get(name="Viewers"))
    assert client.get("/admin/lobwife/apikey/").status_code == 200
    keys.create_key(name="kept", role=Role.VIEWER, actor="test")
    client.post("/admin/lobwife/apikey/", {"action": "revoke", "_selected_action": "1"})
    promoted = {"username": "eve", "is_superuser": "on"}
    for path, form in (
        ("/admin/lobwife/apikey/add/", {"name": "mine", "role": "operator"}),
        ("/admin/lobwife/accesspolicy/1/change/", {"decided": "open"}),
        (f"/admin/auth/user/{viewer.pk}/change/", promoted),
        ("/admin/auth/user/add/", promoted),
    ):
        assert client.post(path, form).status_code == 403, path
    viewer.refresh_from_db()
    assert not viewer.is_superuser
    assert not policy.is_open()
    assert keys.ApiKey.objects.get().state == "not used yet"


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("path", ["/admin/", "/admin/live/dashboard/", "/admin/activity/", "/admin/search/?q=T1"])
def test_staff_without_permissions_see_no_dashboard_activity_or_search(path: str) -> None:
    staff = User.objects.create_user("eve", password=PASSWORD, is_staff=True)
    client = Client()
    client.force_login(staff, BACKEND)
    assert client.get(path).status_code == 403
    staff.groups.add(Group.objects.get(name="Viewers"))
    assert client.get(path, follow=True).status_code == 200


@pytest.mark.usefixtures("seeded")
def test_operators_are_told_on_every_page_that_access_is_open() -> None:
    operator = Client()
    operator.force_login(User.objects.create_superuser("root"), BACKEND)
    warning = "The API is open"
    assert warning not in operator.get("/admin/").content.decode()
    policy.decide(mode="open", actor="test")
    assert warning in operator.get("/admin/").content.decode()
    assert warning not in Client().get("/admin/login/").content.decode()


@pytest.mark.usefixtures("seeded")
def test_behind_tls_browsers_are_told_to_stay_there() -> None:
    with override_settings(SECURE_HSTS_SECONDS=3600, SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        for path in ("/health", "/api/docs", "/admin/login/"):
            answer = Client().get(path, headers={"X-Forwarded-Proto": "https"})
            assert "max-age=3600" in answer.headers["Strict-Transport-Security"], path
            assert "Strict-Transport-Security" not in Client().get(path).headers, path


def test_a_secret_key_that_every_user_can_read_is_refused(installation: Installation) -> None:
    del installation.environment["LOBWIFE_SECRET_KEY"]
    path = installation.state / "secret-key"
    path.write_text("x" * 60)
    path.chmod(0o644)
    refused = installation.manage("check", check=False)
    assert refused.returncode
    assert "chmod 600" in refused.stderr
    path.chmod(0o600)
    assert installation.manage("check").returncode == 0
