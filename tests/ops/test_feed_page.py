"""Every event as a page: by type, subject, person and time, with a link to what it is about."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client

from access.keys import create_key
from core.callers import Caller, Role
from core.timestamps import utc_now
from events.models import Event
from events.services import append
from jobs.execution import runs
from jobs.models import Trigger
from ops import feed
from tasks import services
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]
PATH = "/admin/activity/events/"


def types(client: Client, query: str = "") -> list[str]:
    return re.findall(r'<a href="\?type=[^"]*">([^<]+)</a>', text(client, f"{PATH}?{query}"))


def test_events_are_found_by_type_subject_and_person(operator_client: Client) -> None:
    Event.objects.all().delete()
    olga = Caller("olga", Role.OPERATOR)
    task = services.create_task(fields={"name": "a"}, actor="lobboss", caller=olga)
    services.log_event(task_id=task.pk, event_type="progress", detail="half of <b>it</b>", actor="lobster-1")
    run = runs.request_run(name="review-prs", trigger=Trigger.OPERATOR, requested_by="olga")
    create_key(name="ci", role=Role.VIEWER, actor="olga")
    assert types(operator_client) == ["key.created", "run.queued", "task.logged", "task.created"]
    assert types(operator_client, "type=task.*") == ["task.logged", "task.created"]
    assert types(operator_client, "type=task.logged") == ["task.logged"]
    assert types(operator_client, "type=nonsense") == []
    assert types(operator_client, f"subject=t{task.pk}") == ["task.logged", "task.created"]
    assert types(operator_client, f"subject=Run+{run.pk}") == ["run.queued"]
    assert types(operator_client, "who=lobster") == ["task.logged"]
    assert types(operator_client, "who=olga&type=task.*") == ["task.created"]
    page = text(operator_client, PATH)
    assert "half of &lt;b&gt;it&lt;/b&gt;" in page
    for link in (f"/admin/tasks/task/{task.pk}/change/", f"/admin/jobs/jobrun/{run.pk}/change/"):
        assert f'<a href="{link}">' in page


def test_a_time_has_its_events_and_no_others(operator_client: Client) -> None:
    Event.objects.all().delete()
    now = utc_now()
    for hours in (50, 40, 30, 20, 10):
        with time_machine.travel(now - timedelta(hours=hours)), transaction.atomic():
            append("key.revoked", f"{hours} h ago", {"name": "ci"})

    def subjects(query: str) -> list[int]:
        return [int(hours) for hours in re.findall(r">(\d+) h ago</a>", text(operator_client, f"{PATH}?{query}"))]

    assert subjects("range=24h") == [10, 20]
    assert subjects("since=45h&until=25h") == [30, 40]
    assert subjects("until=60h") == []
    assert subjects("since=5h") == []
    assert subjects("since=nonsense") == [10, 20, 30, 40, 50]


def test_older_pages_go_on_where_the_newer_ended(operator_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PAGE", 3)
    with transaction.atomic():
        for number in range(7):
            append("key.revoked", f"key {number}", {"name": "ci"})
    seen, query = [], "type=key.revoked"
    while query:
        page = text(operator_client, f"{PATH}?{query}")
        seen += re.findall(r">key (\d)</a>", page)
        older = re.search(r'href="\?([^"]+)">Older<', page)
        query = older[1].replace("&amp;", "&") if older else ""
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


def test_who_may_not_see_tokens_sees_no_events() -> None:
    User.objects.create_user("sam", is_staff=True)
    client = Client()
    client.force_login(User.objects.get(username="sam"))
    assert client.get(PATH).status_code == 403
