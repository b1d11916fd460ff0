"""The life of a lease by REST: claim, heartbeat, release, expiry, taking away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access import keys
from access.keys import create_key
from broker.audit import SYSTEM
from core.callers import Role
from core.database.backend import is_postgres
from core.timestamps import utc_now
from jobs.alerts.rules import on_task_failed
from jobs.models import Alert
from tasks.costs.budgets import delete_budgets, save_budget
from tasks.costs.services import Report, record_cost
from tasks.leases import queries
from tasks.leases.expiry import Expiry
from tasks.leases.queries import Wanted
from tasks.models import LEASE_ENDED, Budget, Task, TaskEvent, TaskLease
from tasks.services import create_task

pytestmark = pytest.mark.django_db
REMOTE = "10.9.8.7"
NOW = datetime(2026, 2, 16, 12, 0, tzinfo=UTC)


class Caller:
    """A program with a key."""

    def __init__(self, key: str) -> None:
        self._client = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"})

    def post(self, path: str, body: Any) -> Any:
        return self._client.post(f"/api/v1/tasks{path}", body, content_type="application/json")

    def patch(self, path: str, body: Any) -> Any:
        return self._client.patch(f"/api/v1/tasks{path}", body, content_type="application/json")

    def get(self, path: str) -> Any:
        return self._client.get(f"/api/v1/tasks{path}")

    def delete(self, path: str) -> Any:
        return self._client.delete(f"/api/v1/tasks{path}")

    def claim(self, **body: Any) -> Any:
        answer = self.post("/claim", body)
        assert answer.status_code in (200, 204), answer.content
        return answer.json() if answer.status_code == 200 else None


def caller(name: str, role: Role) -> Caller:
    return Caller(create_key(name=name, role=role, actor="test"))


@pytest.fixture
def runner() -> Caller:
    return caller("box-3", Role.RUNNER)


@pytest.fixture
def operator() -> Caller:
    return caller("olga", Role.OPERATOR)


def task(**fields: Any) -> int:
    return create_task(fields={"name": "Work", **fields}, actor=None).pk


def agent_of(claimed: dict[str, Any]) -> Caller:
    return Caller(claimed["key"])


def transactions(call: Callable[[], Any]) -> tuple[Any, int]:
    """Return what a call returns, and how many transactions it began: within a test they are savepoints."""
    with CaptureQueriesContext(connection) as captured:
        result = call()
    return result, sum(query["sql"].startswith("SAVEPOINT") for query in captured)


def expire() -> None:
    Expiry(on_task_failed).tick()


def status_of(number: int) -> str:
    return str(Task.objects.get(pk=number).status)


# --- claim
def test_a_claim_answers_the_whole_task_its_lease_and_a_key(runner: Caller) -> None:
    number = task(repos=["org/app"], workflow="default")
    claimed = runner.claim(types=["swe"], repos=["org/app"], runner="box-3/1", lease_seconds=900)
    shown = agent_of(claimed).get(f"/{number}").json()
    assert {name: claimed[name] for name in shown} == shown
    assert (claimed["status"], claimed["assigned_to"], claimed["attempt"]) == ("active", "key:box-3", 1)
    assert claimed["lease"]["fence"] == 1
    assert claimed["key"].startswith("lw_")
    event = TaskEvent.objects.filter(task_id=number).first()
    assert event is not None
    assert (event.event_type, event.actor, event.caller) == ("claimed", "box-3/1", "key:box-3")


def test_an_empty_queue_is_a_204(runner: Caller) -> None:
    assert runner.post("/claim", {}).status_code == 204
    task(status="blocked")
    assert runner.claim() is None


def test_tasks_are_claimed_by_priority_and_then_by_age_and_listed_so(runner: Caller, operator: Caller) -> None:
    numbers = {name: task(name=name, priority=name) for name in ("low", "whatever", "normal", "critical", "high")}
    Task.objects.filter(pk=numbers["normal"]).update(queued_at="2026-01-01 00:00:00")
    listed = [each["name"] for each in operator.get("?order=queue").json()]
    assert listed == ["critical", "high", "normal", "whatever", "low"]
    assert [runner.claim()["name"] for _ in numbers] == listed
    assert operator.get("?order=queue").json() == []
    assert operator.get("?order=sideways").status_code == 400


def test_a_claim_whose_task_somebody_took_or_changed_meanwhile_gets_the_next(runner: Caller) -> None:
    first, second, third = task(type="qa"), task(type="qa"), task(type="swe")
    lanes = queries.lanes_of(Wanted(("qa",)))
    assert lanes is not None
    assert queries.first_ready(lanes, utc_now()) == first
    assert queries.take(lanes, first, "one", utc_now()) == first
    assert queries.take(lanes, first, "two", utc_now()) == second
    assert queries.take(lanes, third, "three", utc_now()) is None  # it was of type qa when it was looked at
    assert Task.objects.get(pk=third).status == "queued"


def test_a_claim_gets_no_other_types_and_no_other_repositories(runner: Caller) -> None:
    task(name="other type", type="qa")
    task(name="other repository", repos=["org/other"])
    task(name="one too many", repos=["org/app", "org/other"])
    task(name="none", repos=None)
    task(name="fits", repos=["Org/App"])
    assert runner.claim(types=["swe", "research"], repos=["org/app"])["name"] == "fits"
    assert runner.claim(types=["swe"], repos=["org/app"]) is None
    assert runner.claim(types=["qa"])["name"] == "other type"
    assert runner.claim(repos=["org/app", "org/other", "org/third"])["name"] == "other repository"
    assert {runner.claim()["name"], runner.claim()["name"]} == {"one too many", "none"}


def test_a_claim_finds_its_repositories_among_many_other_lists(runner: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_DISTINCT_AT_ONCE", 2)
    for number in range(5):
        task(repos=["org/app", f"org/lib-{number}"])
    last = task(repos=["zeta/app"])
    assert runner.claim(repos=["zeta/app"])["id"] == last


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"lease_seconds": 86_401}, "lease_seconds"),
        ({"wait_seconds": 61}, "wait_seconds"),
        ({"types": [7, {}]}, "types"),
        ({"repos": {}}, "repos"),
    ],
)
def test_what_a_claim_can_t_ask_for_is_a_sentence(runner: Caller, body: dict[str, Any], sentence: str) -> None:
    answer = runner.post("/claim", body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(sentence)


def test_only_runners_services_and_operators_claim() -> None:
    agent = Caller(create_key(name="agent", role=Role.AGENT, actor="test", task_number=task()))
    for refused in (agent, caller("viewer", Role.VIEWER)):
        assert refused.post("/claim", {}).status_code == 403
    assert caller("lobboss", Role.SERVICE).claim(runner="lobster-1")["assigned_to"] == "lobster-1"


# --- the key
def test_the_key_of_a_lease_is_its_agent_s_and_ends_with_the_lease(runner: Caller) -> None:
    number, other = task(), task()
    claimed = runner.claim()
    agent = agent_of(claimed)
    assert agent.post(f"/{number}/events", {"event_type": "note"}).status_code == 201
    assert TaskEvent.objects.filter(task_id=number)[0].caller == f"lease:T{number}/1"
    assert agent.get(f"/{other}").status_code == 404
    release = {"fence": 1, "outcome": "completed"}
    assert agent.post(f"/{number}/release", release).status_code == 200
    refused = agent.get(f"/{number}")
    assert (refused.status_code, "lease" in refused.json()["error"]) == (401, True)
    assert agent.post(f"/{number}/events", {"event_type": "note"}).status_code == 401
    assert agent.patch(f"/{number}", {"status": "active"}).status_code == 401


def test_the_keys_of_leases_that_are_over_go_after_a_day(runner: Caller) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        numbers = [task(), task()]
        over, alive = agent_of(runner.claim()), agent_of(runner.claim(lease_seconds=86_400))
        over.post(f"/{numbers[0]}/release", {"fence": 1, "outcome": "completed"})
        clock.shift(86_000)
        assert alive.get(f"/{numbers[1]}").status_code == 200
        clock.shift(500)
        keys.prune_lease_keys()
        refused = over.post(f"/{numbers[0]}/heartbeat", {"fence": 1})
        assert (refused.status_code, "wrong, expired or revoked" in refused.json()["error"]) == (401, True)
        assert alive.get(f"/{numbers[1]}").status_code == 200


# --- heartbeat
def test_a_heartbeat_and_every_other_call_of_the_key_renew_the_lease(runner: Caller) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        number = task()
        agent = agent_of(runner.claim(lease_seconds=60))
        clock.shift(50)
        beat = agent.post(f"/{number}/heartbeat", {"fence": 1, "progress": "tests run"}).json()
        assert beat == {"expires_at": "2026-02-16T12:01:50Z", "stop": False, "reason": None, "messages": []}
        clock.shift(50)
        assert agent.post(f"/{number}/events", {"event_type": "note"}).status_code == 201
        clock.shift(50)
        assert agent.get(f"/{number}").status_code == 200
        expire()
        assert status_of(number) == "active"
        assert TaskLease.objects.get().progress == "tests run"


def test_a_claim_a_heartbeat_and_a_release_are_one_transaction_each(runner: Caller) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        assert runner.claim() is None  # the first use of its key, which is written once in ten minutes
        task()
        claimed, count = transactions(lambda: runner.claim(lease_seconds=60))
        assert count == 1
        agent, number, fence = agent_of(claimed), claimed["id"], claimed["lease"]["fence"]
        clock.shift(20)  # another call of the key would renew the lease now
        beat, count = transactions(lambda: agent.post(f"/{number}/heartbeat", {"fence": fence, "progress": "tests"}))
        assert (beat.status_code, count) == (200, 0 if is_postgres() else 1)  # there it is a statement of its own
        clock.shift(20)
        body = {"fence": fence, "outcome": "completed"}
        released, count = transactions(lambda: agent.post(f"/{number}/release", body))
        assert (released.status_code, count) == (200, 1)


def test_a_key_that_is_used_often_is_written_now_and_then(runner: Caller) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        number = task()
        agent = agent_of(runner.claim(lease_seconds=900))
        clock.shift(9)
        agent.get(f"/{number}")
        assert TaskLease.objects.get().beat_at == NOW
        clock.shift(2)
        agent.get(f"/{number}")
        assert TaskLease.objects.get().beat_at == NOW + timedelta(seconds=11)


@pytest.mark.parametrize(("seconds", "apart"), [(900, 1.0), (2, 0.2)])
def test_heartbeats_in_quick_succession_are_written_once(runner: Caller, seconds: int, apart: float) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        task()
        claimed = runner.claim(lease_seconds=seconds)
        beat = f"/{claimed['id']}/heartbeat", {"fence": claimed["lease"]["fence"]}
        for moment, written in ((0.9 * apart, 0), (1.1 * apart, 1.1 * apart)):
            clock.move_to(NOW + timedelta(seconds=moment))
            assert runner.post(*beat).status_code == 200
            assert TaskLease.objects.get().beat_at == NOW + timedelta(seconds=written)


def test_a_cancelled_task_s_agent_is_told_to_stop_and_changes_nothing(runner: Caller, operator: Caller) -> None:
    number = task()
    agent = agent_of(runner.claim())
    assert operator.delete(f"/{number}").status_code == 200
    beat = agent.post(f"/{number}/heartbeat", {"fence": 1})
    assert (beat.status_code, beat.json()["stop"]) == (200, True)
    assert beat.json()["reason"] == f"task T{number} was cancelled"
    assert agent.post(f"/{number}/release", {"fence": 1, "outcome": "completed"}).status_code == 409
    assert agent.post(f"/{number}/events", {"event_type": "note"}).status_code == 401
    assert status_of(number) == "cancelled"


def test_only_the_holder_its_agent_and_operators_beat(runner: Caller, operator: Caller) -> None:
    number = task()
    runner.claim()
    body = {"fence": 1}
    assert runner.post(f"/{number}/heartbeat", body).status_code == 200
    assert operator.post(f"/{number}/heartbeat", body).status_code == 200
    refused = caller("box-4", Role.RUNNER).post(f"/{number}/heartbeat", body)
    assert (refused.status_code, refused.json()["error"]) == (
        403,
        f"key:box-3 claimed task T{number}, not key:box-4",
    )
    assert runner.post(f"/{number}/heartbeat", {"fence": 2}).status_code == 409
    assert runner.post("/987654/heartbeat", body).status_code == 404
    assert runner.post(f"/{number}/heartbeat", {}).status_code == 400


# --- release
@pytest.mark.parametrize("outcome", ["completed", "failed", "queued", "blocked"])
def test_a_release_sets_the_status_and_can_be_repeated(runner: Caller, outcome: str) -> None:
    number = task()
    agent = agent_of(runner.claim())
    body = {"fence": 1, "outcome": outcome, "reason": "as planned"}
    first, second = agent.post(f"/{number}/release", body), agent.post(f"/{number}/release", body)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert status_of(number) == outcome
    assert TaskEvent.objects.filter(task_id=number).count() == 3
    refused = agent.post(f"/{number}/release", {"fence": 1, "outcome": "other"})
    assert refused.status_code == 400
    other = "failed" if outcome == "completed" else "completed"
    otherwise = agent.post(f"/{number}/release", {**body, "outcome": other})
    assert (otherwise.status_code, otherwise.json()["code"]) == (409, "lease_released")


def test_an_old_fence_is_told_who_holds_the_task(runner: Caller) -> None:
    number = task()
    old = agent_of(runner.claim(lease_seconds=60))
    assert old.post(f"/{number}/release", {"fence": 1, "outcome": "queued"}).status_code == 200
    claimed = runner.claim(runner="box-3/2")
    assert (claimed["lease"]["fence"], claimed["attempt"]) == (2, 2)
    refused = old.post(f"/{number}/heartbeat", {"fence": 1})
    sentence = f"fence 1 of task T{number} is over (released); box-3/2 (key:box-3) holds it with fence 2"
    assert (refused.status_code, refused.json()) == (409, {"error": sentence, "code": "lease_released"})
    assert old.post(f"/{number}/release", {"fence": 2, "outcome": "completed"}).status_code == 409
    assert status_of(number) == "active"


# --- expiry
def test_an_expired_lease_queues_the_task_again_and_fails_it_after_three(runner: Caller, settings: Any) -> None:
    settings.ALERT_URLS = ("json://127.0.0.1:1/",)
    number = task()
    with time_machine.travel(NOW, tick=False) as clock:
        for attempt, wait in ((1, 10), (2, 20)):
            agent = agent_of(runner.claim(lease_seconds=30, runner="box-3/1"))
            clock.shift(31)
            assert agent.post(f"/{number}/events", {"event_type": "note"}).status_code == 401, (
                "before the daemon looked"
            )
            expire()
            row = Task.objects.get(pk=number)
            assert (row.status, row.assigned_to, row.assigned_at) == ("queued", None, None)
            assert runner.claim() is None
            clock.shift(wait - 1)
            assert runner.claim() is None, f"after attempt {attempt}"
            clock.shift(1)
        assert runner.claim(lease_seconds=30, runner="box-3/1")["attempt"] == 3
        assert not Alert.objects.exists()
        clock.shift(31)
        expire()
    assert status_of(number) == "failed"
    event = TaskEvent.objects.filter(task_id=number)[0]
    assert (event.event_type, event.status) == (LEASE_ENDED, "failed")
    assert event.detail == (
        "The lease of box-3/1 (key:box-3) expired (fence 3, attempt 3); failed, since 3 leases in a row expired"
    )
    assert [alert.title for alert in Alert.objects.all()] == [f"Task T{number} failed"]


def test_the_number_of_strikes_is_the_type_s(runner: Caller, settings: Any) -> None:
    settings.LEASE_STRIKES = {"default": 3, "qa": 1}
    number = task(type="qa")
    with time_machine.travel(NOW, tick=False) as clock:
        runner.claim(lease_seconds=30)
        clock.shift(31)
        expire()
    assert status_of(number) == "failed"


def test_a_task_that_was_never_claimed_is_never_reaped(operator: Caller) -> None:
    number = task()
    operator.patch(f"/{number}", {"status": "active", "assigned_to": "agent-7"})
    with time_machine.travel(utc_now() + timedelta(days=30)):
        expire()
    assert status_of(number) == "active"


def test_at_the_end_of_a_lease_a_heartbeat_comes_before_it_or_too_late(runner: Caller) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        number = task()
        agent = agent_of(runner.claim(lease_seconds=30))
        clock.shift(29)
        assert agent.post(f"/{number}/heartbeat", {"fence": 1}).status_code == 200
        clock.shift(29)
        expire()
        assert status_of(number) == "active"
        clock.shift(1)
        late = agent.post(f"/{number}/heartbeat", {"fence": 1})
        assert late.status_code == 409
        assert "expired" in late.json()["error"]
        expire()
        assert status_of(number) == "queued"


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_set_ends_no_lease_and_prolongs_none(runner: Caller, seconds: int) -> None:
    number = task()
    with time_machine.travel(NOW, tick=False) as clock:
        expiry = Expiry(on_task_failed)
        agent = agent_of(runner.claim(lease_seconds=60))
        expiry.tick()
        clock.shift(seconds)  # the monotonic clock goes on as before
        expiry.tick()
        assert status_of(number) == "active"
        assert agent.post(f"/{number}/events", {"event_type": "note"}).status_code == 201
        later = utc_now() + timedelta(seconds=61)
    with time_machine.travel(later, tick=False):
        Expiry(on_task_failed).tick()
        assert status_of(number) == "queued"


def test_expiry_waits_for_the_lease_that_ends_next(runner: Caller) -> None:
    expiry = Expiry(on_task_failed)
    assert expiry.tick() is False
    with time_machine.travel(NOW, tick=False):
        for seconds in (60, 30):
            task()
            runner.claim(lease_seconds=seconds)
        assert expiry.tick() == 30


# --- what others do to a leased task
@pytest.mark.parametrize(
    ("changes", "status", "end"),
    [
        ({"status": "queued"}, "queued", "taken away"),
        ({"status": "completed"}, "completed", "taken away"),
        ({"status": "cancelled"}, "cancelled", "cancelled"),
        ({"assigned_to": "agent-7"}, "active", "taken away"),
        ({"priority": "high", "status": "active"}, "active", ""),
    ],
)
def test_a_patch_of_a_leased_task_ends_its_lease_unless_it_leaves_it_active(
    runner: Caller, operator: Caller, changes: dict[str, str], status: str, end: str
) -> None:
    number = task()
    agent = agent_of(runner.claim())
    assert operator.patch(f"/{number}", {**changes, "actor": "olga"}).status_code == 200
    assert (status_of(number), TaskLease.objects.get().end) == (status, end)
    beat = agent.post(f"/{number}/heartbeat", {"fence": 1})
    assert (beat.status_code, beat.json()["stop"]) == (200, bool(end))
    if end == "taken away":
        assert beat.json()["reason"].startswith("olga ")
    assert agent.post(f"/{number}/events", {"event_type": "note"}).status_code == (401 if end else 201)


def test_an_agent_s_own_patch_of_the_status_hands_the_task_back(runner: Caller) -> None:
    number = task()
    agent = agent_of(runner.claim())
    assert agent.patch(f"/{number}", {"status": "active"}).status_code == 200
    assert agent.patch(f"/{number}", {"status": "blocked"}).status_code == 200
    assert (TaskLease.objects.get().end, status_of(number)) == ("released", "blocked")


def test_a_task_that_a_shell_queued_again_has_one_valid_fence(runner: Caller) -> None:
    number = task()
    old = agent_of(runner.claim())
    Task.objects.filter(pk=number).update(status="queued", broker_status="active")
    claimed = runner.claim()
    assert claimed["lease"]["fence"] == 2
    assert Task.objects.get(pk=number).broker_status == "ended", "the old holder's tokens are not the new one's"
    assert TaskEvent.objects.filter(task_id=number, event_type=LEASE_ENDED).count() == 1, "for the broker to follow"
    assert old.post(f"/{number}/events", {"event_type": "note"}).status_code == 401
    assert old.post(f"/{number}/heartbeat", {"fence": 1}).json()["stop"] is True
    assert TaskLease.objects.filter(ended_at=None).count() == 1


@pytest.mark.parametrize(
    ("scope", "name"), [("task", "T{id}"), ("type", "swe"), ("repo", "org/app"), ("all", "")], ids=lambda value: value
)
def test_a_spent_budget_stops_the_holder_and_further_claims(runner: Caller, scope: str, name: str) -> None:
    number = task(type="swe", repos=["Org/App"])
    claimed = runner.claim()
    record_cost(task_id=number, report=Report("m", cost_usd=Decimal(9)), caller=SYSTEM)
    budget = Budget(scope=scope, name=name.format(id=number), period="total", limit_usd=Decimal(5))
    save_budget(budget)
    beat = agent_of(claimed).post(f"/{number}/heartbeat", {"fence": 1}).json()
    assert beat["stop"] is True
    assert "budget" in beat["reason"]
    assert agent_of(claimed).post(f"/{number}/release", {"fence": 1, "outcome": "queued"}).status_code == 200
    assert runner.claim() is None
    delete_budgets([budget])
    assert runner.claim()["id"] == number


def test_nobody_logs_the_end_of_a_lease_but_leases(operator: Caller) -> None:
    number = task()
    answer = operator.post(f"/{number}/events", {"event_type": LEASE_ENDED})
    assert answer.status_code == 400
    assert not TaskEvent.objects.filter(event_type=LEASE_ENDED).exists()


def test_a_subtask_has_no_repositories_that_its_parent_gets_no_tokens_for(runner: Caller) -> None:
    number = task(repos=["org/app", "org/secret"])
    agent = agent_of(runner.claim())
    Task.objects.filter(pk=number).update(broker_repos='["org/app"]')
    assert agent.post("", {"name": "x", "repos": ["org/secret"]}).status_code == 403
    assert agent.post("", {"name": "x", "repos": ["org/app"]}).status_code == 201
