"""The feed: what is in it, in which order, and how it is read."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.test import Client

from access.keys import create_key, revoke_key
from access.leases import claim
from broker import audit
from broker.audit import SYSTEM
from broker.models import Action, Outcome, TokenAudit
from core.callers import Caller, Role
from core.errors import LobwifeError
from core.timestamps import utc_now
from events import retention
from events.models import Event
from events.services import LONGEST_TEXT, CursorGone, StoredEvent, append, newest_id, read_after
from events.types import TYPES, expand
from jobs import services as jobs
from jobs.execution import runs
from jobs.execution.runs import Ending, Process
from jobs.models import ACTIVE, Concurrency, Job, JobRun, State, Trigger
from jobs.scheduling.due import enqueue_due
from tasks.costs.budgets import save_budget
from tasks.costs.services import Report, record_cost
from tasks.leases.expiry import Expiry
from tasks.leases.queries import Wanted
from tasks.leases.services import release_task, take_away
from tasks.models import Budget, Status, Task, TaskEvent, TaskLease
from tasks.services import cancel_task, create_task, log_event, update_task
from tests.support.installation import ROOT
from vaultsync.models import SyncRun
from vaultsync.services import record_sync
from vaultsync.vault import SyncResult

RUNNER = Caller("key:box-3", Role.RUNNER)
OPERATOR = Caller("olga", Role.OPERATOR)


def note() -> None:
    with transaction.atomic():
        append("key.revoked", "ci", {"name": "ci"}, actor="olga")


def since(cursor: int = 0, **where: Any) -> list[StoredEvent]:
    return read_after(cursor, **where).events


def task(**fields: Any) -> Task:
    return create_task(fields={"name": "Work", **fields}, actor="boss", caller=OPERATOR)


def data_of(event: StoredEvent) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(event.data)
    return data


# --- appending
@pytest.mark.django_db(transaction=True)
def test_an_event_is_there_with_its_change_and_not_without_it() -> None:
    with pytest.raises(TransactionManagementError):
        append("key.revoked", "ci", {"name": "ci"})
    with transaction.atomic():
        task()
        transaction.set_rollback(True)
    assert not Event.objects.exists()
    assert not Task.objects.exists()


@pytest.mark.django_db
def test_an_event_has_the_fields_of_its_type() -> None:
    with pytest.raises(ValueError, match="other"):
        append("key.revoked", "ci", {"other": 1})
    with pytest.raises(KeyError):
        append("key.eaten", "ci", {})


@pytest.mark.django_db
def test_a_long_text_is_cut_off() -> None:
    made, begin = task(), newest_id()
    log_event(task_id=made.pk, event_type="progress", detail="x" * 50_000, actor="y" * 5000)
    [event] = since(begin)
    assert data_of(event)["detail"] == "x" * LONGEST_TEXT + "…"
    assert len(event.actor or "") == LONGEST_TEXT + 1


# --- reading
@pytest.mark.django_db
def test_a_cursor_neither_skips_nor_repeats() -> None:
    begin = newest_id()
    for _ in range(25):
        note()
    seen, cursor = [], begin
    while page := read_after(cursor, limit=10).events:
        seen += [event.id for event in page]
        cursor = read_after(cursor, limit=10).next
    assert seen == list(range(begin + 1, begin + 26))
    assert read_after(cursor) == ([], cursor)


@pytest.mark.django_db
def test_a_reader_gets_the_types_and_the_task_that_it_wants_and_its_cursor_passes_the_others() -> None:
    begin = newest_id()
    first, second = task(), task()
    note()
    assert [event.subject for event in since(begin, types=["task.created"])] == [first.task_id, second.task_id]
    assert [event.subject for event in since(begin, task=second.pk)] == [second.task_id]
    assert since(begin, types=["key.revoked"], task=second.pk) == []
    assert read_after(begin, task=first.pk).next == read_after(begin, types=["run.ended"]).next == newest_id()


@pytest.mark.django_db
def test_a_reader_far_behind_is_led_on_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.services._WINDOW", 3)
    begin = newest_id()
    for _ in range(7):
        note()
    task()
    cursor, found = begin, []
    while (page := read_after(cursor, types=["task.created"])).next > cursor:
        cursor, found = page.next, found + page.events
    assert [event.id for event in found] == [begin + 8]


@pytest.mark.django_db
def test_a_cursor_whose_events_were_removed_is_refused_with_one_that_works() -> None:
    begin = newest_id()
    with time_machine.travel(utc_now() - timedelta(days=40), tick=True):
        note()
        note()
    note()
    retention.prune()
    with pytest.raises(CursorGone) as gone:
        read_after(begin)
    assert gone.value.next == begin + 2
    assert [event.id for event in since(gone.value.next)] == [begin + 3]
    with pytest.raises(CursorGone) as ahead:
        read_after(newest_id() + 1)
    assert ahead.value.next == newest_id()


@pytest.mark.django_db
def test_retention_goes_by_age_and_number_and_keeps_the_newest(settings: LazySettings) -> None:
    settings.EVENTS_KEEP = 10
    Event.objects.all().delete()
    with time_machine.travel(utc_now() - timedelta(days=40), tick=True):
        for _ in range(15):
            note()
    newest = newest_id()
    note()
    assert retention.prune() == 15
    with time_machine.travel(utc_now() + timedelta(days=400), tick=True):
        retention.prune()
    assert list(Event.objects.values_list("pk", flat=True)) == [newest + 1]
    for _ in range(20):
        note()
    retention.prune()
    assert Event.objects.count() == 10


def test_types_can_be_named_by_their_beginning() -> None:
    assert expand(["run.*"]) == {"run.queued", "run.started", "run.ended", "run.aborted", "run.lost"}
    assert expand(["task.created", "*"]) == set(TYPES)
    with pytest.raises(LobwifeError, match=r"docs/events\.md"):
        expand(["run"])


# --- what is in it
@pytest.mark.django_db
def test_the_life_of_a_task() -> None:
    begin = newest_id()
    made = task(repos=["org/app"])
    _claim("box-3/1")
    log_event(task_id=made.pk, event_type="progress", detail="half", actor="agent", caller=RUNNER)
    release_task(task_id=made.pk, fence=1, outcome="completed", reason="done", caller=RUNNER)
    events = since(begin)
    assert [event.type for event in events] == ["task.created", "lease.claimed", "task.logged", "lease.released"]
    assert {(event.subject, event.task_id) for event in events} == {(made.task_id, made.pk)}
    created, claimed, logged, released = map(data_of, events)
    assert (created["name"], created["repos"], created["status"]) == ("Work", ["org/app"], "queued")
    assert (events[0].actor, events[0].caller) == ("boss", "olga")
    assert (claimed["holder"], claimed["fence"], claimed["status"]) == ("key:box-3", 1, "active")
    assert logged["event_type"] == "progress"
    assert (released["outcome"], released["reason"], released["status"]) == ("completed", "done", "completed")
    history = TaskEvent.objects.filter(task=made).order_by("pk")
    assert [each["event_id"] for each in (created, claimed, logged, released)] == [entry.pk for entry in history]


@pytest.mark.django_db
def test_a_change_tells_the_old_and_the_new_values() -> None:
    made, begin = task(), newest_id()
    update_task(task_id=made.pk, changes={"status": "failed"}, actor="x")
    [event] = since(begin)
    assert event.type == "task.updated"
    assert data_of(event)["changes"] == {"status": ["queued", "failed"]}


@pytest.mark.django_db
@pytest.mark.parametrize("word", ["created", "lease_ended", "progress"])
def test_what_callers_log_is_never_taken_for_another_type(word: str) -> None:
    made, begin = task(), newest_id()
    log_event(task_id=made.pk, event_type=word, detail=None, actor=None, caller=OPERATOR)
    assert [event.type for event in since(begin)] == ["task.logged"]


@pytest.mark.django_db
def test_the_states_of_a_run() -> None:
    job = jobs.define_job(
        fields={"name": "nightly", "script": "hello.py", "schedule": "@daily", "retries": 1}, actor="t"
    )
    begin = newest_id()
    run = runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="olga")
    runs.record_start(run, Process(1, 1, "boot"))
    runs.record_end(run, Ending(State.FAILED, "exit 3", exit_code=3, duration=1.5))
    [retry] = JobRun.objects.filter(retry_of=run)
    runs.abort_run(run_id=retry.pk, actor="olga")
    events = since(begin, types=expand(["run.*"]))
    assert [(event.type, event.subject) for event in events] == [
        ("run.queued", f"run {run.pk}"),
        ("run.started", f"run {run.pk}"),
        ("run.ended", f"run {run.pk}"),
        ("run.queued", f"run {retry.pk}"),
        ("run.aborted", f"run {retry.pk}"),
    ]
    ended = data_of(events[2])
    assert (ended["job"], ended["state"], ended["exit_code"], ended["duration"]) == ("nightly", "failed", 3, 1.5)
    assert "exit 3" in ended["note"]
    assert data_of(events[3])["retry_of"] == run.pk
    assert events[4].actor == "olga"


@pytest.mark.django_db
def test_tokens_keys_syncs_and_budgets() -> None:
    begin = newest_id()
    create_key(name="ci", role=Role.VIEWER, actor="olga")
    revoke_key(name="ci", actor="olga")
    audit.record(action=Action.TOKEN, outcome=Outcome.ISSUED, requested_id="T7", task_number=7, caller=SYSTEM)
    for result in (SyncResult(), SyncResult(pushed=True), SyncResult(error="the disk is full")):
        record_sync(run=SyncRun(started_at=utc_now(), reason="a change"), result=result, served=None)
    save_budget(Budget(scope="all", period="day", limit_usd=1))
    record_cost(task_id=task().pk, report=Report("a-model", cost_usd=2), caller=OPERATOR)  # type: ignore[arg-type]
    events = [event for event in since(begin) if event.type != "task.created"]
    assert [(event.type, event.subject) for event in events] == [
        ("key.created", "ci"),
        ("key.revoked", "ci"),
        ("token.issued", "T7"),
        ("vault.pushed", "vault"),
        ("vault.failed", "vault"),
        ("budget.spent", "the budget of all tasks"),
    ]
    assert events[2].task_id == 7


@pytest.mark.django_db
def test_changes_in_the_admin(operator_client: Client) -> None:
    begin = newest_id()
    fields = {"scope": "type", "name": "swe", "period": "day", "limit_usd": "5"}
    assert operator_client.post("/admin/tasks/budget/add/", fields).status_code == 302
    number = Budget.objects.get().pk
    operator_client.post(f"/admin/tasks/budget/{number}/change/", {**fields, "limit_usd": "6"})
    operator_client.post(f"/admin/tasks/budget/{number}/delete/", {"post": "yes"})
    changes = [(data_of(event)["action"], data_of(event)["model"], event.actor) for event in since(begin)]
    assert changes == [(action, "tasks.budget", "olga") for action in ("added", "changed", "deleted")]


@pytest.mark.django_db
def test_the_feed_equals_the_tables_after_random_changes(settings: LazySettings) -> None:
    begin, chance = newest_id(), random.Random(7)
    first_audit = TokenAudit.objects.count()
    settings.LEASE_BACKOFF_SECONDS = 0
    policies = (Concurrency.QUEUE, Concurrency.REPLACE, Concurrency.FORBID)
    made = [
        jobs.define_job(
            fields={"name": f"j{each}", "script": "x.sh", "schedule": "* * * * *", "concurrency": policy, "retries": 1},
            actor="t",
        )
        for each, policy in enumerate(policies)
    ]
    enqueue_due()
    with time_machine.travel(utc_now(), tick=False) as clock:
        for _ in range(300):
            clock.shift(chance.choice((1, 5, 70)))
            try:
                with transaction.atomic():
                    chance.choice((_change_a_task, _change_a_lease, _change_a_run))(chance, made)
            except LobwifeError:
                continue
    audit.record(action=Action.TOKEN_REFUSED, outcome=Outcome.REFUSED, requested_id="T1", caller=SYSTEM)
    cursor, events = begin, []
    while page := read_after(cursor, limit=50).events:
        cursor, events = page[-1].id, events + page
    for event in events:
        assert data_of(event).keys() == TYPES[event.type].fields.keys()
    histories = [data_of(event)["event_id"] for event in events if event.type.startswith(("task.", "lease."))]
    assert [number for number in histories if number] == list(
        TaskEvent.objects.order_by("pk").values_list("pk", flat=True)
    )
    _compare_leases(events)
    _compare_runs(events)
    assert sum(event.type.startswith("token.") for event in events) == TokenAudit.objects.count() - first_audit


def _change_a_task(chance: random.Random, made: list[Job]) -> None:
    number = chance.choice([*Task.objects.values_list("pk", flat=True), 0])
    status = chance.choice(Status.values)
    chance.choice(
        (
            lambda: task(depends_on=[number] if number else None),
            lambda: update_task(task_id=number, changes={"status": status}, actor="x", caller=OPERATOR),
            lambda: update_task(task_id=number, changes={"assigned_to": "y"}, actor="x"),
            lambda: cancel_task(task_id=number, actor="x"),
            lambda: log_event(task_id=number, event_type="note", detail="z", actor="x"),
        )
    )()


def _change_a_lease(chance: random.Random, made: list[Job]) -> None:
    lease = TaskLease.objects.filter(ended_at=None).order_by("?").first()
    number, fence = (lease.task_id, lease.fence) if lease else (0, 0)
    own = Caller(f"lease:T{number}/{fence}", Role.AGENT, task_id=number, fence=fence)
    outcome = chance.choice(("completed", "failed", "queued", "blocked"))
    chance.choice(
        (
            _claim,
            _claim,
            lambda: release_task(task_id=number, fence=fence, outcome=outcome, reason="", caller=RUNNER),
            lambda: update_task(task_id=number, changes={"status": outcome}, actor=None, caller=own),
            lambda: take_away(task_id=number, actor="olga", caller=OPERATOR),
            lambda: Expiry(lambda task_id, detail: None).tick(),
        )
    )()


def _claim(runner: str = "r") -> None:
    claim(wanted=Wanted(), seconds=60, runner=runner, caller=RUNNER)


def _change_a_run(chance: random.Random, made: list[Job]) -> None:
    run = JobRun.objects.filter(state__in=ACTIVE).select_related("job").order_by("?").first()
    choices = [lambda: runs.request_run(name=chance.choice(made).name, trigger=Trigger.REST, requested_by="x")]
    if run is not None:
        state = chance.choice((State.SUCCESS, State.FAILED, State.LOST, State.SKIPPED, State.ABORTED))
        choices += [
            enqueue_due,  # type: ignore[list-item]
            lambda: runs.record_start(run, Process(1, 1, "boot")),  # type: ignore[list-item,return-value]
            lambda: runs.record_end(run, Ending(state)),  # type: ignore[list-item,return-value]
            lambda: runs.requeue(run, Process(1, 1, "boot")),  # type: ignore[list-item,return-value]
            lambda: runs.abort_run(run_id=run.pk, actor="x"),
        ]
    chance.choice(choices)()


def _compare_leases(events: list[StoredEvent]) -> None:
    """Each lease was claimed once, and ended once as its row says."""
    ends: dict[tuple[int, int], list[str]] = {}
    for event in events:
        if event.type.startswith("lease."):
            ends.setdefault((event.task_id or 0, data_of(event)["fence"]), []).append(event.type)
    expected = {
        (lease.task_id, lease.fence): [
            "lease.claimed",
            *([f"lease.{lease.end.replace(' ', '_')}"] if lease.end else []),
        ]
        for lease in TaskLease.objects.all()
    }
    assert ends == expected
    assert len(expected) > 5


def _compare_runs(events: list[StoredEvent]) -> None:
    """The last event of each run has its state, and one that is over ended once."""
    states: dict[int, str] = {}
    over: Counter[int] = Counter()
    for event in events:
        if event.type.startswith("run."):
            data = data_of(event)
            states[data["run_id"]] = data["state"]
            over[data["run_id"]] += data["state"] not in ACTIVE
    assert states == dict(JobRun.objects.values_list("pk", "state"))
    assert set(over.values()) <= {0, 1}
    assert len(states) > 5


# --- what is promised
def test_the_manual_has_every_type_with_its_fields() -> None:
    text = (ROOT / "docs" / "events.md").read_text().partition("## Types")[2]
    described: dict[str, dict[str, str]] = {}
    for section in text.split("### ")[1:]:
        types = re.findall(r"^\| `([a-z_.]+)` \| (.+?) \| `(.+?)` \| ", section, re.MULTILINE)
        fields = re.findall(r"^\| `(\w+)` \| (each|`.+?`) \| (.+) \|$", section, re.MULTILINE)
        for name, words, subject in types:
            assert (words, subject) == (TYPES[name].words, TYPES[name].subject)
            described[name] = {
                field: means for field, where, means in fields if where == "each" or f"`{name}`" in where
            }
    assert described == {name: dict(each.fields) for name, each in TYPES.items()}
