"""`/`: a page for who is not signed in, the admin for who is."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support.installation import Installation

PASSWORD = "a password of the operator"


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_superuser("olga", "", PASSWORD)


@pytest.fixture
def visitor() -> Client:
    return Client(enforce_csrf_checks=True)


def sign_in(visitor: Client, *, path: str = "/", password: str = PASSWORD):  # noqa: ANN201 - the test client's own
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', visitor.get(path).content.decode())
    assert token
    return visitor.post(path, {"username": "olga", "password": password, "csrfmiddlewaretoken": token[1]})


def test_without_a_sign_in_it_is_a_page_that_names_lobwife(server: Installation) -> None:
    answer = server.get("/", port=server.web_port)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert b"lobwife" in answer.body
    assert b'type="password"' in answer.body
    head = server.request("HEAD", "/", port=server.web_port)
    assert (head.status, head.body) == (200, b"")


def test_signing_in_there_leads_to_the_admin(visitor: Client, operator: User) -> None:
    answer = sign_in(visitor)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert visitor.get("/")["Location"] == "/admin/"
    assert b"lobwife" in visitor.get("/admin/").content


def test_a_wrong_password_is_told_on_the_page(visitor: Client, operator: User) -> None:
    answer = sign_in(visitor, password="another password")
    assert answer.status_code == 200
    assert b"Please enter the correct" in answer.content


def test_signing_in_never_leads_to_another_site(visitor: Client, operator: User) -> None:
    assert sign_in(visitor, path="/?next=//example.com/")["Location"] == "/admin/"


def test_a_form_of_another_site_signs_nobody_in(visitor: Client, operator: User) -> None:
    assert visitor.post("/", {"username": "olga", "password": PASSWORD}).status_code == 403
