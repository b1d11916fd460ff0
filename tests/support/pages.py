"""The operators' pages, asked for without a browser."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture
def olga(db: None) -> User:
    return User.objects.create_superuser("olga")


@pytest.fixture
def operator_client(olga: User) -> Client:
    """olga, signed in."""
    client = Client()
    client.force_login(olga)
    client.get("/admin/jsi18n/")  # the first request of a session notes when it was; no other costs as little
    return client


def text(client: Client, path: str) -> str:
    """The page, which must be there."""
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


def form_of(client: Client, path: str, **changes: str) -> dict[str, str]:
    """What a browser sends of a form of the admin, with some fields changed."""
    sent = {}
    for bound in client.get(path).context["adminform"].form:
        value = bound.value()
        sent[bound.html_name] = sent[bound.html_initial_name] = "" if value is None else str(value)
    return {**sent, **changes}
