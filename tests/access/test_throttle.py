"""Rates, lockouts and sessions."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import override_settings

from access.keys import create_key
from access.throttle import RateLimits
from core.callers import Role
from tests.support.installation import ROOT

PASSWORD = "correct-horse-battery"
REMOTE = "10.9.8.7"
START = "2026-02-16T12:00:00Z"


@pytest.fixture
def _empty_limits(settings: object, tmp_path: pathlib.Path) -> Iterator[None]:
    with override_settings(STATE_DIR=tmp_path):
        yield


def test_a_bucket_takes_a_minutes_worth_at_once_and_then_its_rate(tmp_path: pathlib.Path) -> None:
    limits = RateLimits(tmp_path / "limits", "secret")
    with time_machine.travel(START, tick=False) as clock:
        assert [limits.take("kind", "a", 6) for _ in range(6)] == [0] * 6
        assert limits.take("kind", "a", 6) == 10
        assert limits.take("kind", "b", 6) == 0, "others have buckets of their own"
        clock.shift(10)
        assert limits.take("kind", "a", 6) == 0
        assert limits.take("kind", "a", 6) == 10
        clock.shift(-86_400)
        assert limits.take("kind", "a", 6) == 0, "a clock that was set back locks nobody out"


def test_no_rate_is_no_limit(tmp_path: pathlib.Path) -> None:
    limits = RateLimits(tmp_path / "limits", "secret")
    assert not any(limits.take("kind", "a", 0) for _ in range(100))


_TAKE_MANY = """
import pathlib, sys
from access.throttle import RateLimits
limits = RateLimits(pathlib.Path(sys.argv[1]), "secret")
print(sum(limits.take("kind", "a", 50) == 0 for _ in range(40)))
"""


def test_processes_share_a_bucket(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", _TAKE_MANY, str(tmp_path / "limits")]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(3)]
    taken = sum(int(process.communicate(timeout=60)[0]) for process in started)
    assert 50 <= taken < 100, "120 were asked for, perhaps some of them seconds later"
    assert (tmp_path / "limits").stat().st_mode & 0o077 == 0


@pytest.mark.django_db
@pytest.mark.usefixtures("_empty_limits")
def test_wrong_credentials_are_counted_by_address_and_good_ones_still_work() -> None:
    key = create_key(name="good", role=Role.VIEWER, actor="test")
    wrong = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": "Bearer lw_wrong"})
    statuses = [wrong.get("/api/v1/tasks").status_code for _ in range(40)]
    assert statuses[:30] == [401] * 30
    assert statuses[-1] == 429
    refused = wrong.get("/api/v1/tasks")
    assert int(refused.headers["Retry-After"]) >= 1
    good = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"})
    assert good.get("/api/v1/tasks").status_code == 200


@pytest.mark.django_db
@pytest.mark.usefixtures("_empty_limits")
def test_on_a_full_disk_good_callers_go_on_and_guessing_stays_slow(tmp_path: pathlib.Path) -> None:
    (tmp_path / "rate-limits").symlink_to("/dev/full")
    key = create_key(name="good", role=Role.SERVICE, service="lobboss", actor="test")
    good = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"}, raise_request_exception=False)
    asked = good.post("/api/v1/service-token", {"service": "lobboss"}, content_type="application/json")
    assert (asked.status_code, "not configured" in asked.json()["error"]) == (503, True)
    wrong = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": "Bearer lw_wrong"}, raise_request_exception=False)
    with time_machine.travel(START, tick=False):
        assert [wrong.get("/api/v1/tasks").status_code for _ in range(31)] == [401] * 30 + [429]
    page = Client(REMOTE_ADDR=REMOTE, raise_request_exception=False)
    assert page.post("/admin/login/", {"username": "ada", "password": "guess"}).status_code == 200


@pytest.mark.django_db
@pytest.mark.usefixtures("_empty_limits")
def test_who_guesses_a_password_is_locked_out_visibly_until_an_operator_removes_it() -> None:
    User.objects.create_user("ada", password=PASSWORD, is_staff=True)
    User.objects.create_superuser("root", password=PASSWORD)
    with override_settings(LOGINS_PER_MINUTE=1000, AXES_FAILURE_LIMIT=3):
        client = Client(REMOTE_ADDR=REMOTE)
        for _ in range(3):
            locked = client.post("/admin/login/", {"username": "ada", "password": "guess"})
        assert locked.status_code == 429
        assert b"Too many sign-ins" in locked.content
        right = client.post("/admin/login/", {"username": "ada", "password": PASSWORD})
        assert right.status_code == 429, "not even the right password"
        elsewhere = Client(REMOTE_ADDR="10.0.0.1")
        assert elsewhere.post("/admin/login/", {"username": "ada", "password": PASSWORD}).status_code == 302

        operator = Client()
        operator.force_login(User.objects.get(username="root"), "access.groups.RoleBackend")
        page = operator.get("/admin/axes/accessattempt/").content.decode()
        assert "ada" in page
        assert "guess" not in page
        row = re.search(r'name="_selected_action" value="(\d+)"', page)
        assert row is not None
        removal = {"action": "delete_selected", "_selected_action": row[1], "post": "yes"}
        operator.post("/admin/axes/accessattempt/", removal)
        assert client.post("/admin/login/", {"username": "ada", "password": PASSWORD}).status_code == 302


@pytest.mark.django_db
@pytest.mark.usefixtures("_empty_limits")
def test_sign_ins_of_one_address_are_few_a_minute() -> None:
    client = Client(REMOTE_ADDR=REMOTE)
    with override_settings(LOGINS_PER_MINUTE=2):
        answers = [client.post("/admin/login/", {"username": f"name-{n}", "password": "x"}) for n in range(4)]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert answers[3].status_code == 429
    assert int(answers[3].headers["Retry-After"]) >= 1


@pytest.mark.django_db
@pytest.mark.usefixtures("_empty_limits")
def test_a_session_ends_when_it_was_idle_and_polling_does_not_keep_it() -> None:
    person = User.objects.create_superuser("ada", password=PASSWORD)
    with time_machine.travel(START, tick=False) as clock:
        busy, idle = Client(), Client()
        for client in (busy, idle):
            client.force_login(person, "access.groups.RoleBackend")
            assert client.get("/admin/").status_code == 200
        for _ in range(5):
            clock.shift(3600)
            assert busy.get("/admin/").status_code == 200
            idle.get("/admin/", headers={"HX-Request": "true"})
        assert idle.get("/admin/").status_code == 302


@pytest.mark.django_db
def test_a_short_password_is_refused() -> None:
    operator = Client()
    operator.force_login(User.objects.create_superuser("root"), "access.groups.RoleBackend")
    weak = {"username": "new", "password1": "hunter2", "password2": "hunter2", "usable_password": "true"}
    page = operator.post("/admin/auth/user/add/", weak)
    assert b"at least 12 characters" in page.content
    assert not User.objects.filter(username="new").exists()


@pytest.mark.django_db
def test_a_rotated_secret_key_keeps_sessions_until_the_old_one_is_dropped() -> None:
    person = User.objects.create_superuser("ada", password=PASSWORD)
    client = Client()
    with override_settings(SECRET_KEY="the-old-key" * 5):
        client.force_login(person, "access.groups.RoleBackend")
    with override_settings(SECRET_KEY="the-new-key" * 5, SECRET_KEY_FALLBACKS=["the-old-key" * 5]):
        assert client.get("/admin/").status_code == 200
    client.cookies.clear()
    with override_settings(SECRET_KEY="the-old-key" * 5):
        client.force_login(person, "access.groups.RoleBackend")
    with override_settings(SECRET_KEY="the-new-key" * 5):
        assert client.get("/admin/").status_code == 302


@pytest.mark.django_db
def test_a_key_is_made_once_in_the_admin_and_revoked_there() -> None:
    operator = Client()
    operator.force_login(User.objects.create_superuser("root"), "access.groups.RoleBackend")
    made = operator.post("/admin/lobwife/apikey/add/", {"name": "ci", "role": "viewer"}, follow=True)
    shown = re.search(r"lw_[0-9a-f]{8}_[\w-]{43}", made.content.decode())
    assert shown is not None
    assert shown[0] not in operator.get("/admin/lobwife/apikey/").content.decode()
    caller = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {shown[0]}"})
    assert caller.get("/api/v1/tasks").status_code == 200
    row = re.search(r'name="_selected_action" value="(\d+)"', operator.get("/admin/lobwife/apikey/").content.decode())
    assert row is not None
    operator.post("/admin/lobwife/apikey/", {"action": "revoke", "_selected_action": row[1]})
    assert caller.get("/api/v1/tasks").status_code == 401
    wrong = operator.post("/admin/lobwife/apikey/add/", {"name": "agent", "role": "agent"})
    assert b"needs the number of its task" in wrong.content


@pytest.mark.usefixtures("seeded")
def test_an_operator_decides_in_the_admin_who_may_call() -> None:
    operator, stranger = Client(), Client(REMOTE_ADDR=REMOTE)
    operator.force_login(User.objects.create_superuser("root"), "access.groups.RoleBackend")
    assert stranger.get("/api/v1/tasks").status_code == 401
    operator.post("/admin/lobwife/accesspolicy/1/change/", {"decided": "open"})
    assert stranger.get("/api/v1/tasks").status_code == 200
    assert REMOTE in operator.get("/admin/lobwife/accesspolicy/1/change/").content.decode()
    operator.post("/admin/lobwife/accesspolicy/1/change/", {"decided": "required"})
    assert stranger.get("/api/v1/tasks").status_code == 401
