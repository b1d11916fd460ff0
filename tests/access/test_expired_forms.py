"""A form that arrives too late keeps its input, and another site's form gets none of it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = pytest.mark.django_db
FORM = {"name": "a name", "description": "two\nlines", "password1": "hush", "value": "hush"}
PATH = "/admin/jobs/job/add/"


def client() -> Client:
    """A browser that does not know the token of the page's session."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("olga"))
    client.get("/admin/")
    return client


@pytest.mark.parametrize("origin", ["http://testserver", "https://evil.example", None])
def test_a_failed_csrf_check_keeps_the_input_of_our_own_pages_alone(origin: str | None) -> None:
    answer = client().post(PATH, FORM, headers={"Origin": origin} if origin else {})
    page = answer.content.decode()
    assert answer.status_code == 403
    assert ("two\nlines" in page) is ("Send it again" in page) is (origin == "http://testserver")
    assert "hush" not in page
    assert "DEBUG" not in page


def test_who_is_signed_out_keeps_the_input() -> None:
    answer = Client().post(PATH, FORM, headers={"Origin": "http://testserver"})
    page = answer.content.decode()
    assert (answer.status_code, "You are signed out" in page, "two\nlines" in page) == (401, True, True)
    assert "hush" not in page


def test_a_part_of_a_page_learns_that_the_session_ended() -> None:
    answer = Client().get("/admin/live/dashboard/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.content) == (401, b"You are signed out. Reload the page.")
    assert Client().get("/admin/live/dashboard/").status_code == 302
