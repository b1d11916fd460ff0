"""Operators take a task from its holder: on its page, and by a command."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from tasks.leases.queries import current_leases
from tasks.models import LEASE_ENDED, TaskEvent, TaskLease
from tests.support.pages import text
from tests.tasks.test_claims import Caller, agent_of, runner, status_of, task

__all__ = ["runner"]
pytestmark = pytest.mark.django_db


def page_of(client: Client, number: int) -> str:
    return text(client, f"/admin/tasks/task/{number}/change/")


def take_away(client: Client, number: int, fence: int) -> str:
    answer = client.post(f"/admin/tasks/task/{number}/take-away/", {"fence": fence}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_page_lists_the_leases_and_takes_the_task_away(operator_client: Client, runner: Caller) -> None:
    number = task()
    assert "Leases" not in page_of(operator_client, number)
    agent = agent_of(runner.claim(runner="box-3/1"))
    agent.post(f"/{number}/heartbeat", {"fence": 1, "progress": "half of it"})
    page = page_of(operator_client, number)
    for part in ("box-3/1 (key:box-3)", "attempt 1, fence 1", "last sign of life", "half of it", "Take away"):
        assert part in page
    assert "was taken away from box-3/1" in take_away(operator_client, number, 1)
    assert status_of(number) == "queued"
    beat = agent.post(f"/{number}/heartbeat", {"fence": 1}).json()
    assert (beat["stop"], beat["reason"]) == (True, f"olga took task T{number} away")
    event = TaskEvent.objects.filter(task_id=number)[0]
    assert (event.event_type, event.actor, event.caller) == (LEASE_ENDED, "olga", "olga")
    assert "Take away" not in page_of(operator_client, number)


def test_of_two_operators_the_second_takes_nothing_from_the_next_holder(
    operator_client: Client, runner: Caller
) -> None:
    number = task()
    runner.claim(runner="first")
    take_away(operator_client, number, 1)
    assert "Nobody holds task" in take_away(operator_client, number, 1)
    runner.claim(runner="second")
    assert "Second (key:box-3) holds it by now" in take_away(operator_client, number, 1)
    assert status_of(number) == "active"


def test_the_command_lists_leases_and_takes_a_task_away(runner: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    number = task(name="Fix it")
    agent = agent_of(runner.claim(runner="box-3/1"))
    call_command("leases", "list")
    row = json.loads(capsys.readouterr().out)
    assert (row["task_id"], row["name"], row["holder"], row["fence"]) == (f"T{number}", "Fix it", "key:box-3", 1)
    [(lease, name)] = current_leases()
    assert (lease.task_id, name) == (number, "Fix it")
    call_command("leases", "take-away", f"T{number}", "--reason", "the box is being moved")
    assert agent.post(f"/{number}/heartbeat", {"fence": 1}).json()["reason"] == "the box is being moved"
    assert current_leases() == []
    assert TaskLease.objects.get().end == "taken away"
    for wrong, sentence in ((f"T{number}", "nobody holds"), ("T987654", "not found"), ("x", "write it as T42")):
        with pytest.raises(CommandError, match=sentence):
            call_command("leases", "take-away", wrong)
