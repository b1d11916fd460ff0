"""Rates, lockouts and sessions."""

from __future__ import annotations

import re

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import override_settings
from pytest_django import Settings

from access.keys import create_key
from access.throttle import TokenBuckets
from broker.models import TokenAudit
from core.callers import Role

PASSWORD = "correct-horse-battery"
REMOTE = "10.9.8.7"
START = "2026-02-16T12:00:00Z"


@pytest.fixture(autouse=True)
def one_worker(settings: Settings) -> None:
    """Each worker grants its share of a limit: here the one process grants all of it."""
    settings.WEB_WORKERS = 1


def test_a_bucket_takes_a_minutes_worth_at_once_and_then_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("access.throttle.time.monotonic", lambda: now)
    buckets = TokenBuckets()
    assert [buckets.take("kind", "a", 6) for _ in range(6)] == [0] * 6
    assert buckets.take("kind", "a", 6) == 10
    assert buckets.take("kind", "b", 6) == 0, "others have buckets of their own"
    now += 10
    assert buckets.take("kind", "a", 6) == 0
    assert buckets.take("kind", "a", 6) == 10


def test_no_rate_is_no_limit() -> None:
    buckets = TokenBuckets()
    assert not any(buckets.take("kind", "a", 0) for _ in range(100))


def test_each_worker_grants_its_share(settings: Settings) -> None:
    settings.WEB_WORKERS = 2
    buckets = TokenBuckets()
    assert sum(buckets.take("kind", "a", 30) == 0 for _ in range(40)) == 15


def test_callers_without_end_take_no_memory_without_end() -> None:
    buckets = TokenBuckets()
    for number in range(20_000):
        buckets.take("kind", str(number), 6)
    assert len(buckets._empty_at) == 10_000


@pytest.mark.django_db
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
def test_strangers_from_everywhere_neither_fill_the_audit_nor_keep_others_out_of_it() -> None:
    key = create_key(name="agent", role=Role.AGENT, actor="test", task_number=1)
    client = Client(headers={"Authorization": "Bearer lw_wrong"})
    for number in range(150):
        client.get(f"/api/v1/tasks/{'9' * 400}", REMOTE_ADDR=f"10.1.1.{number}")
    strangers = TokenAudit.objects.all()
    assert strangers.count() == 10
    assert {len(entry.task_id) for entry in strangers} == {100}
    client.post("/api/token", {"task_id": "T2"}, "application/json", headers={"Authorization": f"Bearer {key}"})
    assert TokenAudit.objects.filter(identity="key:agent").count() == 1


@pytest.mark.django_db
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
        operator.force_login(User.objects.get(username="root"), "access.authentication.RoleBackend")
        page = operator.get("/admin/axes/accessattempt/").content.decode()
        assert "ada" in page
        assert "guess" not in page
        row = re.search(r'name="_selected_action" value="(\d+)"', page)
        assert row is not None
        removal = {"action": "delete_selected", "_selected_action": row[1], "post": "yes"}
        operator.post("/admin/axes/accessattempt/", removal)
        assert client.post("/admin/login/", {"username": "ada", "password": PASSWORD}).status_code == 302


@pytest.mark.django_db
def test_sign_ins_of_one_address_are_few_a_minute() -> None:
    client = Client(REMOTE_ADDR=REMOTE)
    with override_settings(LOGINS_PER_MINUTE=2):
        answers = [client.post("/admin/login/", {"username": f"name-{n}", "password": "x"}) for n in range(4)]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert answers[3].status_code == 429
    assert int(answers[3].headers["Retry-After"]) >= 1


@pytest.mark.django_db
def test_addresses_of_one_ipv6_network_share_a_limit() -> None:
    """A host has a network of 2**64 addresses to itself."""
    with override_settings(FAILED_AUTHENTICATIONS_PER_MINUTE=2):
        client = Client(headers={"Authorization": "Bearer lw_wrong"})
        answers = [client.get("/api/v1/tasks", REMOTE_ADDR=f"2001:db8:1:2::{n}").status_code for n in range(1, 4)]
        assert answers == [401, 401, 429]
        assert client.get("/api/v1/tasks", REMOTE_ADDR="2001:db8:1:3::1").status_code == 401
    with override_settings(LOGINS_PER_MINUTE=2):
        client = Client()
        answers = [
            client.post("/admin/login/", {"username": f"n{n}"}, REMOTE_ADDR=f"2001:db8:1:2::{n}").status_code
            for n in range(1, 4)
        ]
        assert answers == [200, 200, 429]
    with override_settings(LOGINS_PER_MINUTE=1000, AXES_FAILURE_LIMIT=3):
        wrong = {"username": "ada", "password": "guess"}
        answers = [client.post("/admin/login/", wrong, REMOTE_ADDR=f"2001:db8:2::{n}").status_code for n in range(4)]
        assert answers[-1] == 429


@pytest.mark.django_db
def test_a_session_ends_when_it_was_idle_and_polling_does_not_keep_it() -> None:
    person = User.objects.create_superuser("ada", password=PASSWORD)
    with time_machine.travel(START, tick=False) as clock:
        busy, idle = Client(), Client()
        for client in (busy, idle):
            client.force_login(person, "access.authentication.RoleBackend")
            assert client.get("/admin/").status_code == 200
        for _ in range(5):
            clock.shift(3600)
            assert busy.get("/admin/").status_code == 200
            idle.get("/admin/", headers={"HX-Request": "true"})
        assert idle.get("/admin/").status_code == 302


@pytest.mark.django_db
def test_a_short_password_is_refused() -> None:
    operator = Client()
    operator.force_login(User.objects.create_superuser("root"), "access.authentication.RoleBackend")
    weak = {"username": "new", "password1": "hunter2", "password2": "hunter2", "usable_password": "true"}
    page = operator.post("/admin/auth/user/add/", weak)
    assert b"at least 12 characters" in page.content
    assert not User.objects.filter(username="new").exists()


@pytest.mark.django_db
def test_a_rotated_secret_key_keeps_sessions_until_the_old_one_is_dropped() -> None:
    person = User.objects.create_superuser("ada", password=PASSWORD)
    client = Client()
    with override_settings(SECRET_KEY="the-old-key" * 5):
        client.force_login(person, "access.authentication.RoleBackend")
    with override_settings(SECRET_KEY="the-new-key" * 5, SECRET_KEY_FALLBACKS=["the-old-key" * 5]):
        assert client.get("/admin/").status_code == 200
    client.cookies.clear()
    with override_settings(SECRET_KEY="the-old-key" * 5):
        client.force_login(person, "access.authentication.RoleBackend")
    with override_settings(SECRET_KEY="the-new-key" * 5):
        assert client.get("/admin/").status_code == 302


@pytest.mark.django_db
def test_a_key_is_made_once_in_the_admin_and_revoked_there() -> None:
    operator = Client()
    operator.force_login(User.objects.create_superuser("root"), "access.authentication.RoleBackend")
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
    operator.force_login(User.objects.create_superuser("root"), "access.authentication.RoleBackend")
    assert stranger.get("/api/v1/tasks").status_code == 401
    operator.post("/admin/lobwife/accesspolicy/1/change/", {"decided": "open"})
    assert stranger.get("/api/v1/tasks").status_code == 200
    assert REMOTE in operator.get("/admin/lobwife/accesspolicy/1/change/").content.decode()
    operator.post("/admin/lobwife/accesspolicy/1/change/", {"decided": "required"})
    assert stranger.get("/api/v1/tasks").status_code == 401
