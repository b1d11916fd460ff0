"""Relations of tasks: dependencies, groups, times before which nobody claims, subtasks of agents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine

from core.timestamps import iso_text, utc_now
from tasks.models import Task, TaskEvent
from tests.tasks.test_claims import Caller, agent_of, operator, runner, status_of, task

__all__ = ["operator", "runner"]
pytestmark = pytest.mark.django_db


def make(by: Caller, **fields: Any) -> int:
    answer = by.post("", {"name": "Work", **fields})
    assert answer.status_code == 201, answer.content
    return int(answer.json()["id"])


def test_a_task_is_claimed_once_all_that_it_depends_on_is_completed(runner: Caller, operator: Caller) -> None:
    first, second = make(operator, status="active"), make(operator, status="active")
    last = make(operator, depends_on=[first, f"T{second}"])
    assert operator.get(f"/{last}").json()["depends_on"] == [first, second]
    assert runner.claim() is None
    operator.patch(f"/{first}", {"status": "completed"})
    assert runner.claim() is None
    operator.patch(f"/{second}", {"status": "completed"})
    assert runner.claim()["id"] == last


def test_a_lost_dependency_blocks_with_a_sentence_and_its_return_frees(operator: Caller) -> None:
    first = make(operator)
    second = make(operator, depends_on=[first])
    operator.delete(f"/{first}")
    assert status_of(second) == "blocked"
    event = TaskEvent.objects.filter(task_id=second)[0]
    assert (event.event_type, event.detail) == ("blocked", f"T{first}, which it depends on, is cancelled")
    third = make(operator, depends_on=[first])
    assert status_of(third) == "blocked"
    operator.patch(f"/{first}", {"status": "queued"})
    assert (status_of(second), status_of(third)) == ("queued", "queued")
    operator.patch(f"/{first}", {"status": "failed"})
    operator.patch(f"/{third}", {"depends_on": []})
    assert (status_of(second), status_of(third)) == ("blocked", "queued")


def test_a_cycle_is_refused_and_named(operator: Caller) -> None:
    first = make(operator)
    second = make(operator, depends_on=[first])
    third = make(operator, depends_on=[second], parent=second)
    refused = operator.patch(f"/{first}", {"depends_on": [third]})
    assert (refused.status_code, refused.json()["error"]) == (
        409,
        f"depends_on would be a cycle: T{first} → T{third} → T{second} → T{first}",
    )
    assert operator.patch(f"/{first}", {"depends_on": [first]}).status_code == 409
    assert "parent would be a cycle" in operator.patch(f"/{second}", {"parent": third}).json()["error"]
    assert "depends_on" not in operator.get(f"/{first}").json()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"depends_on": [987_654]}, "depends_on names T987654, which does not exist"),
        ({"depends_on": ["x"]}, "depends_on.0 must be the id of a task, such as 42 or T42"),
        ({"parent": 987_654}, "parent names T987654, which does not exist"),
        ({"not_before": "soon"}, "not_before must be an ISO 8601 time such as 2026-02-16T12:00:00Z"),
    ],
)
def test_a_relation_that_can_t_be_is_a_sentence(operator: Caller, fields: dict[str, Any], sentence: str) -> None:
    refused = operator.post("", {"name": "x", **fields})
    assert (refused.status_code, refused.json()["error"]) == (400, sentence)
    assert not Task.objects.exists()


def test_of_a_group_one_task_is_active_at_a_time(runner: Caller, operator: Caller) -> None:
    for _ in range(2):
        make(operator, group="deploy")
    claimed = runner.claim()
    assert runner.claim() is None
    agent_of(claimed).post(f"/{claimed['id']}/release", {"fence": 1, "outcome": "completed"})
    assert runner.claim() is not None


def test_a_task_that_is_put_off_is_claimed_later(runner: Caller, operator: Caller) -> None:
    make(operator, not_before=iso_text(utc_now() + timedelta(hours=1)))
    assert runner.claim() is None
    with time_machine.travel(utc_now() + timedelta(hours=1, seconds=1)):
        assert runner.claim() is not None


# --- subtasks
@pytest.fixture
def agent(runner: Caller) -> Caller:
    """The holder of a task for org/app."""
    task(repos=["org/app"])
    return agent_of(runner.claim())


def test_an_agent_creates_tasks_under_its_own(agent: Caller, operator: Caller) -> None:
    number = make(agent, name="Part", repos=["org/app"])
    assert operator.get(f"/{number}").json()["parent"] == Task.objects.order_by("pk")[0].pk


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"repos": ["org/app", "org/other"]}, "repos has org/other"),
        ({"type": "wide"}, "a task of type wide would get more permissions"),
        ({"assigned_to": "somebody"}, "not assigned_to"),
        ({"status": "active"}, "not status"),
        ({"parent": 987_654}, "an agent creates tasks under its own"),
        ({"depends_on": [987_654]}, "depends_on has T987654"),
        ({"priority": "high"}, "priority high is above normal, that of task T"),
        ({"group": "deploy"}, "group deploy is not that of task T"),
    ],
)
def test_a_subtask_is_no_wider_than_the_agent_s_own_task(
    agent: Caller, settings: Any, fields: dict[str, Any], sentence: str
) -> None:
    settings.BROKER_PERMISSIONS = {**settings.BROKER_PERMISSIONS, "wide": {"administration": "write"}}
    refused = agent.post("", {"name": "Part", **fields})
    assert (refused.status_code, sentence in refused.json()["error"]) == (403, True), refused.content


def test_a_subtask_may_have_the_group_of_the_agent_s_own_task_and_a_lower_priority(
    runner: Caller, operator: Caller
) -> None:
    task(priority="high", group="deploy")
    holder = agent_of(runner.claim())
    numbers = [make(holder, name="Part", **fields) for fields in ({}, {"priority": "normal"}, {"group": "deploy"})]
    parts = [operator.get(f"/{number}").json() for number in numbers]
    assert [(part["priority"], part["group"]) for part in parts] == [
        ("high", None),
        ("normal", None),
        ("high", "deploy"),
    ]


def test_the_number_and_depth_of_subtasks_are_limited(agent: Caller, runner: Caller, settings: Any) -> None:
    settings.SUBTASKS_PER_TASK, settings.SUBTASK_DEPTH = 2, 1
    make(agent, name="one")
    below = agent_of(runner.claim())
    assert "1 levels deep" in below.post("", {"name": "too deep"}).json()["error"]
    make(agent, name="two")
    refused = agent.post("", {"name": "three"})
    assert (refused.status_code, "has 2 subtasks" in refused.json()["error"]) == (409, True)
