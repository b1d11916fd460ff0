"""The fleet: who works on what, the stuck ones first, and what an operator does about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from broker.models import IssuedToken
from core.timestamps import iso_text, seconds_text, utc_now
from jobs.models import AlertKind, AlertSetting
from tasks import services
from tasks.models import LeaseEnd, Status, Task, TaskEvent, TaskLease
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]


def active(name: str, agent: str, *, minutes: int, **fields: Any) -> Task:
    """A task that an agent has been working on for so long."""
    task = services.create_task(fields={"name": name, "repos": ["acme/web"], **fields}, actor="lobboss")
    since = utc_now() - timedelta(minutes=minutes)
    changes = {"status": Status.ACTIVE, "assigned_to": agent, "assigned_at": iso_text(since)}
    services.update_task(task_id=task.pk, changes=changes, actor="lobboss")
    TaskEvent.objects.filter(task=task).update(created_at=seconds_text(since))
    return task


def test_the_stuck_agent_comes_first_with_its_time_and_tokens(operator_client: Client) -> None:
    active("Paint the fence", "lobster-1", minutes=20, estimate_minutes=40)
    stuck = active("Mend the roof", "lobster-2", minutes=100, estimate_minutes=30)
    hour = utc_now() + timedelta(hours=1)
    about = {"generation": 0, "event_id": 0, "minted_at": utc_now(), "refresh_at": hour, "repos": "", "permissions": ""}
    IssuedToken.objects.create(key=f"task:{stuck.pk}", requested_id="x", expires_at=hour, **about)
    page = " ".join(text(operator_client, "/admin/fleet/").split())
    assert '2 tasks in work, <strong class="is-bad">1 stuck</strong>' in page
    assert page.index("Mend the roof") < page.index("Paint the fence")
    assert "1 h 40 min of 30 min" in page
    assert "20 min of 40 min" in page
    assert 'aria-label="50 % of the estimate"' in page
    lane = page[page.index("Mend the roof") :]
    assert '<td class="number" data-label="Tokens out">1</td>' in lane
    assert "1 h 40 min ago</time>" in lane


def test_agents_that_are_not_listed_are_counted(operator_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.fleet.LANES_SHOWN", 1)
    active("Paint the fence", "lobster-1", minutes=20)
    active("Mend the roof", "lobster-2", minutes=100)
    page = text(operator_client, "/admin/fleet/")
    assert "2 tasks in work" in page
    assert ">1 more</a>" in page
    assert "Mend the roof" in page
    assert "Paint the fence" not in page


def test_what_operators_decided_about_alerts_marks_and_filters_tasks_too(operator_client: Client) -> None:
    late, fine = active("Mend the roof", "lobster-1", minutes=50), active("Paint the fence", "lobster-2", minutes=10)
    waiting = services.create_task(fields={"name": "Sweep the yard"}, actor="lobboss")
    Task.objects.filter(pk=waiting.pk).update(queued_at=seconds_text(utc_now() - timedelta(minutes=50)))

    def listed(attention: str) -> list[str]:
        page = text(operator_client, f"/admin/tasks/task/?attention={attention}")
        return [task.name for task in (late, fine, waiting) if f"/tasks/task/{task.pk}/change/" in page]

    assert ">1 stuck<" not in text(operator_client, "/admin/fleet/")
    assert listed("any") == []
    AlertSetting.objects.update_or_create(kind=AlertKind.TASK_ACTIVE, defaults={"threshold": 45})
    AlertSetting.objects.update_or_create(kind=AlertKind.TASK_WAITING, defaults={"threshold": 40})
    assert ">1 stuck<" in text(operator_client, "/admin/fleet/")
    assert (listed("active"), listed("queued")) == (["Mend the roof"], ["Sweep the yard"])
    assert listed("any") == ["Mend the roof", "Sweep the yard"]


def test_a_task_is_taken_away_from_its_agent(operator_client: Client) -> None:
    task = active("Mend the roof", "lobster-2", minutes=100)
    answer = operator_client.post(f"/admin/fleet/{task.pk}/move/", {"verb": "requeue"}, headers={"HX-Request": "true"})
    assert answer.content.decode() == f"T{task.pk} was taken from lobster-2 and is queued again."
    task.refresh_from_db()
    assert (task.status, task.assigned_to, task.assigned_at) == (Status.QUEUED, None, None)
    event = TaskEvent.objects.filter(task=task).latest("id")
    assert (event.actor, event.status) == ("olga", Status.QUEUED)


def test_the_holder_of_a_lease_counts_with_its_heartbeat_and_loses_it_with_the_task(operator_client: Client) -> None:
    task = active("Mend the roof", "lobster-2", minutes=100)
    now = utc_now()
    lease = TaskLease.objects.create(
        task_id=task.pk, fence=1, attempt=1, holder="key 7", runner="runner-3", assigned_to="lobster-2", seconds=600,
        taken_at=now - timedelta(minutes=100), beat_at=now - timedelta(minutes=2),
        expires_at=now + timedelta(minutes=8), progress="half of the tiles are on",
    )  # fmt: skip
    page = text(operator_client, "/admin/fleet/")
    for shown in ("runner-3 (key 7)", "2 min ago</time>", "half of the tiles are on"):
        assert shown in page
    operator_client.post(f"/admin/fleet/{task.pk}/move/", {"verb": "requeue"})
    lease.refresh_from_db()
    assert lease.end == LeaseEnd.TAKEN_AWAY


def test_a_stuck_task_is_taken_away_from_the_overview(operator_client: Client) -> None:
    task = active("Mend the roof", "lobster-2", minutes=100)
    target = f"/admin/fleet/{task.pk}/move/?verb=requeue"
    assert f'formaction="{target}">Take away</button>' in text(operator_client, "/admin/")
    operator_client.post(target)
    task.refresh_from_db()
    assert task.status == Status.QUEUED


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        ("block", "blocked"),
        ("complete", "completed"),
        ("fail", "failed"),
        ("cancel", "cancelled"),
        ("requeue", "queued"),
    ],
)
def test_a_task_is_moved_on_the_board(operator_client: Client, verb: str, status: str) -> None:
    task = active("Mend the roof", "lobster-2", minutes=5)
    answer = operator_client.post(f"/admin/fleet/{task.pk}/move/", {"verb": verb})
    assert answer.status_code == 302
    task.refresh_from_db()
    assert task.status == status
    assert bool(task.completed_at) is (verb == "complete")


def test_what_is_no_move_changes_nothing(operator_client: Client) -> None:
    task = active("Mend the roof", "lobster-2", minutes=5)
    for number, verb, code in ((task.pk, "explode", 302), (task.pk + 1, "requeue", 404)):
        assert operator_client.post(f"/admin/fleet/{number}/move/", {"verb": verb}).status_code == code
    task.refresh_from_db()
    assert task.status == Status.ACTIVE


def test_filters_stay_in_the_address_and_hold_for_both_views(operator_client: Client) -> None:
    active("Paint the fence", "lobster-1", minutes=20, type="qa")
    active("Mend the roof", "lobster-2", minutes=20, type="swe", priority="high")
    for query in ("type=qa", "agent=lobster-1", "q=fence", "repo=acme/web&type=qa"):
        for view in ("", "&view=board"):
            page = text(operator_client, f"/admin/fleet/?{query}{view}")
            assert "Paint the fence" in page, query
            assert "Mend the roof" not in page, query
    assert 'href="?view=board&amp;type=qa"' in text(operator_client, "/admin/fleet/?type=qa")
    assert "No active task fits" in text(operator_client, "/admin/fleet/?q=nothing-like-it")


def test_the_board_shows_a_status_as_a_column_and_counts_what_it_leaves_out(operator_client: Client) -> None:
    for number in range(35):
        services.create_task(fields={"name": f"task {number}"}, actor="x")
    old = services.create_task(fields={"name": "done long ago", "status": Status.COMPLETED}, actor="x")
    Task.objects.filter(pk=old.pk).update(updated_at="2026-01-01 00:00:00")
    page = text(operator_client, "/admin/fleet/?view=board")
    assert ">5 more</a>" in page
    assert "done long ago" not in page


def test_a_viewer_sees_who_works_and_takes_nothing_away() -> None:
    task = active("Mend the roof", "lobster-2", minutes=100)
    viewer = User.objects.create_user("viktor", is_staff=True)
    viewer.groups.add(Group.objects.get(name="Viewers"))
    client = Client()
    client.force_login(viewer)
    page = text(client, "/admin/fleet/")
    assert "Mend the roof" in page
    assert "Take away" not in page
    assert client.post(f"/admin/fleet/{task.pk}/move/", {"verb": "requeue"}).status_code == 403
