"""Strangers don't keep operators from signing in, also where all of them share an address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.test.utils import override_settings

from access.authentication import address_of
from core import env

PASSWORD = "correct-horse-battery"
SHARED = "10.9.8.7"
PATH = "/admin/login/"
RIGHT, WRONG = {"username": "olga", "password": PASSWORD}, {"username": "olga", "password": "guess"}


@pytest.fixture(autouse=True)
def olga(seeded: None) -> Iterator[None]:
    User.objects.create_superuser("olga", password=PASSWORD)
    User.objects.create_superuser("otto", password=PASSWORD)
    with override_settings(WEB_WORKERS=1, LOGINS_PER_MINUTE=6, AXES_FAILURE_LIMIT=3):
        yield


def test_forms_without_a_csrf_token_do_not_count() -> None:
    stranger = Client(enforce_csrf_checks=True, REMOTE_ADDR=SHARED)
    assert {stranger.post(path, WRONG).status_code for path in (PATH, "/") for _ in range(10)} == {403}
    assert Client(REMOTE_ADDR=SHARED).post(PATH, RIGHT).status_code == 302


def test_a_browser_that_signed_in_before_gets_in_while_strangers_guess_behind_the_same_address() -> None:
    browser = Client(REMOTE_ADDR=SHARED)
    assert browser.post(PATH, RIGHT).status_code == 302
    browser.post("/admin/logout/")
    stranger = Client(REMOTE_ADDR=SHARED)
    assert stranger.post(PATH, WRONG).status_code == 200
    assert [stranger.post(PATH, WRONG).status_code for _ in range(8)][-1] == 429
    assert Client(REMOTE_ADDR=SHARED).post(PATH, RIGHT).status_code == 429
    assert browser.post(PATH, RIGHT).status_code == 302


def test_a_browser_has_its_limit_for_the_name_that_signed_in_and_for_no_other() -> None:
    browser = Client(REMOTE_ADDR=SHARED)
    browser.post(PATH, RIGHT)
    browser.post("/admin/logout/")
    assert [browser.post(PATH, WRONG).status_code for _ in range(4)] == [200, 200, 200, 429]
    others = [browser.post(PATH, {**WRONG, "username": "otto"}).status_code for _ in range(3)]
    assert others == [200, 200, 429], "as from any browser"


def test_a_made_up_cookie_is_no_browser_that_signed_in() -> None:
    stranger = Client(REMOTE_ADDR=SHARED)
    stranger.cookies["signed-in-before"] = "0123456789abcdef:olga:1abcde:signature"
    assert [stranger.post(PATH, WRONG).status_code for _ in range(3)] == [200, 200, 429]
    assert Client(REMOTE_ADDR=SHARED).post(PATH, RIGHT).status_code == 429


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("7.7.7.7", "1.2.3.4", "7.7.7.7"),
        ("fd00::5", "2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_last_hop_before_a_trusted_proxy_is_the_client(
    monkeypatch: pytest.MonkeyPatch, peer: str, forwarded: str, address: str
) -> None:
    monkeypatch.setenv("LOBWIFE_TRUSTED_PROXIES", "10.0.0.0/24, fd00::/8")
    with override_settings(TRUSTED_PROXIES=env.networks("LOBWIFE_TRUSTED_PROXIES")):
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        assert address_of(RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers)) == address
    assert address_of(RequestFactory().get("/", REMOTE_ADDR=peer, headers={"X-Forwarded-For": "1.2.3.4"})) == peer


def test_people_behind_a_trusted_proxy_have_limits_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOBWIFE_TRUSTED_PROXIES", "10.0.0.1")
    with override_settings(TRUSTED_PROXIES=env.networks("LOBWIFE_TRUSTED_PROXIES")):
        stranger = Client(REMOTE_ADDR="10.0.0.1", headers={"X-Forwarded-For": "6.6.6.6"})
        assert [stranger.post(PATH, WRONG).status_code for _ in range(4)][-1] == 429
        other = Client(REMOTE_ADDR="10.0.0.1", headers={"X-Forwarded-For": "1.2.3.4"})
        assert other.post(PATH, RIGHT).status_code == 302
