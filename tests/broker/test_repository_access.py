"""Who could reach a repository on a day: tokens that were good for it, and who was registered to ask for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from broker import repository_access
from broker.models import Action, Outcome, TokenAudit
from core.timestamps import iso_text
from tasks import services
from tests.support.pages import text

pytestmark = pytest.mark.django_db
TUESDAY = datetime(2026, 2, 17, tzinfo=UTC)


def entry(action: str, at: datetime, task: str, repos: str | None = '["acme/web"]', **more: object) -> TokenAudit:
    return TokenAudit.objects.create(
        action=action, created_at=iso_text(at), task_id=task, repos=repos, identity=f"key:{task}", **more
    )


def token(at: datetime, task: str, repos: str = '["acme/web"]', sha: str = "") -> TokenAudit:
    until = iso_text(at + timedelta(hours=1))
    return entry(Action.TOKEN, at, task, repos, outcome=Outcome.ISSUED, expires_at=until, token_sha256=sha or None)


def holders(repo: str = "acme/web", day: str = "2026-02-17") -> list[str]:
    return [holder.entry.task_id for holder in repository_access.on_day(repo, day).holders]


def test_tokens_count_that_were_good_on_the_day() -> None:
    token(TUESDAY - timedelta(hours=2), "too-early")
    token(TUESDAY - timedelta(minutes=30), "over-midnight")
    token(TUESDAY + timedelta(hours=12), "noon")
    token(TUESDAY + timedelta(hours=12), "other-repository", '["acme/api"]')
    token(TUESDAY + timedelta(hours=25), "too-late")
    entry(Action.SERVICE_TOKEN, TUESDAY + timedelta(hours=1), "lobboss", '["*"]', outcome=Outcome.ISSUED)
    assert holders() == ["over-midnight", "noon", "lobboss"]
    assert holders("web") == ["over-midnight", "noon", "lobboss"]
    assert holders("acme/docs") == ["lobboss"]


def test_a_token_that_was_revoked_before_the_day_does_not_count() -> None:
    token(TUESDAY - timedelta(minutes=30), "revoked", sha="abc")
    at = TUESDAY - timedelta(minutes=10)
    entry(Action.TOKEN_REVOKED, at, "revoked", outcome=Outcome.REVOKED, token_sha256="abc")
    assert holders() == []


def test_who_was_registered_could_have_asked_until_the_end() -> None:
    task = services.create_task(fields={"name": "a", "status": "active"}, actor="x", created_at="2026-02-10 00:00:00")
    entry(Action.REGISTERED, TUESDAY - timedelta(days=3), f"T{task.pk}", task_number=task.pk)
    entry(Action.REGISTERED, TUESDAY - timedelta(days=3), "ended")
    entry(Action.DEREGISTERED, TUESDAY - timedelta(days=2), "ended")
    entry(Action.REGISTERED, TUESDAY + timedelta(days=3), "later")
    assert [each.entry.task_id for each in repository_access.on_day("acme/web", "2026-02-17").registered] == [
        f"T{task.pk}"
    ]
    task.events.update(status="completed", created_at="2026-02-15 00:00:00")
    assert repository_access.on_day("acme/web", "2026-02-17").registered == []


def test_the_page_answers_in_words_with_links(operator_client: Client) -> None:
    assert "Name a repository and a day" in text(operator_client, "/admin/broker/tokenaudit/reach/")
    task = services.create_task(fields={"name": "a"}, actor="x")
    made = token(TUESDAY + timedelta(hours=9), f"T{task.pk}")
    TokenAudit.objects.filter(pk=made.pk).update(task_number=task.pk)
    page = text(operator_client, "/admin/broker/tokenaudit/reach/?repo=acme/web&day=2026-02-17")
    assert "Had a token for it: 1" in page
    assert f"/admin/tasks/task/{task.pk}/change/" in page
    assert "2026-02-17 10:00" in page
    assert "Write the day as" in text(operator_client, "/admin/broker/tokenaudit/reach/?repo=a&day=tuesday")
