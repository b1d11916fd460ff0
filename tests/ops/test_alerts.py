"""Alerts about the service: each kind is raised once, received, and resolved once; snoozes, quiet hours, the digest."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.db import transaction
from django.test import Client

from access.keys import create_key
from access.models import ApiKey
from broker import audit
from broker.github import app
from broker.models import Action, GitHubState, Outcome
from core.callers import Caller, Role
from core.timestamps import iso_text, seconds_text, utc_now
from jobs import secret_fields, services
from jobs.alerts import kinds, rules
from jobs.alerts import services as alert_services
from jobs.alerts.delivery import AlertSender
from jobs.execution import runs
from jobs.execution.runs import Ending, Process
from jobs.models import (
    Alert,
    AlertKind,
    AlertSchedule,
    AlertSetting,
    Daemon,
    Delivery,
    RaisedAlert,
    Severity,
    State,
    Trigger,
)
from ops import problems
from ops.alerts.watch import Watch
from tasks import services as task_services
from tasks.costs.budgets import save_budget
from tasks.costs.services import Report, record_cost
from tasks.models import Budget, LeaseEnd, Status, Task, TaskLease
from tasks.questions import services as questions
from tests.support.installation import ROOT
from tests.support.pages import text
from tests.support.receiver import Receiver, receiver
from vaultsync.models import VaultState
from webhooks import services as webhooks

pytestmark = pytest.mark.django_db
ABOUT_COPIES = pytest.mark.sqlite("copies of the file")
HOURS = timedelta(hours=1)


@dataclass
class Service:
    """A service in which all is well, until a test makes something happen."""

    settings: LazySettings
    monkeypatch: pytest.MonkeyPatch
    state: pathlib.Path

    def task(self, status: str = Status.QUEUED) -> Task:
        return task_services.create_task(fields={"name": "fix it", "status": status}, actor="t")

    def lease(self, **values: Any) -> TaskLease:
        count, now = TaskLease.objects.count(), utc_now()
        task_id = values.pop("task_id", None) or self.task().pk
        times = {"taken_at": now, "beat_at": now, "expires_at": now, "ended_at": now}
        lease = {"fence": count + 1, "attempt": 1, "holder": "a-1", "assigned_to": "a-1", "seconds": 60}
        return TaskLease.objects.create(task_id=task_id, **lease, **times, **values)


@pytest.fixture
def place() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def service(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, place: Receiver
) -> Service:
    settings.ALERT_URLS = (f"json://127.0.0.1:{place.port}/everybody",)
    settings.PUBLIC_URL = "https://ops.example.com"
    settings.STATE_DIR = tmp_path / "state"
    settings.VAULT_PATH = tmp_path / "vault"
    (settings.STATE_DIR / "backups").mkdir(parents=True)
    (settings.VAULT_PATH / ".git").mkdir(parents=True)
    Daemon.objects.update_or_create(pk=Daemon.PK, defaults={"pid": 1, "beat_at": utc_now()})
    VaultState.objects.create()
    GitHubState.objects.create(pk=1)
    monkeypatch.setattr(app, "problem", lambda: None)  # there is an App
    return Service(settings, monkeypatch, settings.STATE_DIR)


# --- how each kind begins, and how it is over
def task_waits(service: Service) -> Callable[[], object]:
    task = service.task()
    Task.objects.filter(pk=task.pk).update(queued_at=seconds_text(utc_now() - 2 * HOURS))
    return lambda: task_services.update_task(task_id=task.pk, changes={"status": Status.CANCELLED}, actor="t")


def task_is_active_too_long(service: Service) -> Callable[[], object]:
    task = service.task(Status.ACTIVE)
    Task.objects.filter(pk=task.pk).update(assigned_at=iso_text(utc_now() - 2 * HOURS))
    return lambda: task_services.update_task(task_id=task.pk, changes={"status": Status.COMPLETED}, actor="t")


def agents_fail_on_a_task(service: Service) -> Callable[[], object]:
    task = service.task()
    for _ in range(3):
        service.lease(task_id=task.pk, end=LeaseEnd.RELEASED, outcome=Status.FAILED)
    return lambda: task_services.update_task(task_id=task.pk, changes={"status": Status.COMPLETED}, actor="t")


def lease_expires(service: Service) -> Callable[[], object]:
    lease = service.lease(end=LeaseEnd.EXPIRED)
    return lambda: TaskLease.objects.filter(pk=lease.pk).update(ended_at=utc_now() - 2 * HOURS)


def github_refuses(service: Service) -> Callable[[], object]:
    GitHubState.objects.update(last_error="GitHub refuses (403)", last_error_at=utc_now())
    return lambda: GitHubState.objects.update(last_mint_at=utc_now())


def rate_limit_nears_its_end(service: Service) -> Callable[[], object]:
    GitHubState.objects.update(rate_left=12, rate_reset_at=utc_now() + HOURS)
    return lambda: GitHubState.objects.update(rate_left=4999)


def tokens_are_refused(service: Service) -> Callable[[], object]:
    def ask(outcome: Outcome) -> None:
        audit.record(action=Action.TOKEN, outcome=outcome, requested_id="T1", caller=audit.SYSTEM, reason="not yours")

    for _ in range(5):
        ask(Outcome.REFUSED)
    return lambda: ask(Outcome.ISSUED)


def vault_is_blocked(service: Service) -> Callable[[], object]:
    VaultState.objects.update(failures=1, last_error="HEAD is detached", last_error_at=utc_now())
    return lambda: VaultState.objects.update(failures=0)


def vault_is_behind(service: Service) -> Callable[[], object]:
    AlertSetting.objects.update_or_create(kind=AlertKind.VAULT_BEHIND, defaults={"threshold": 1})
    for _ in range(2):
        service.task()
    return lambda: AlertSetting.objects.filter(kind=AlertKind.VAULT_BEHIND).update(threshold=None)


def copy_is_old(service: Service) -> Callable[[], object]:
    def keep(moment: datetime) -> None:
        (service.state / "backups" / f"lobmob-{moment:%Y%m%dT%H%M%SZ}.db.gz").touch()

    keep(utc_now() - 5 * HOURS)
    return lambda: keep(utc_now())


def restore_fails(service: Service) -> Callable[[], object]:
    file = service.state / "backups" / "last-trial.json"
    outcome = {"copy": "c.gz", "tried_at": iso_text(utc_now()), "passed": False, "found": "it is damaged"}
    file.write_text(json.dumps(outcome))
    return file.unlink


def disk_fills(service: Service) -> Callable[[], object]:
    service.monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100 * 2**20))
    return lambda: service.monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**40))


def key_expires(service: Service) -> Callable[[], object]:
    create_key(name="ci", role=Role.VIEWER, actor="t", expires_at=utc_now() + timedelta(days=2))
    ApiKey.objects.update(last_used_at=utc_now())
    return lambda: ApiKey.objects.update(revoked_at=utc_now())


def daemon_is_in_trouble(service: Service) -> Callable[[], object]:
    Daemon.objects.update(trouble="send alerts failed 3 times in a row; daemon.log has the reason")
    return lambda: Daemon.objects.update(trouble="")


def webhook_is_paused(service: Service) -> Callable[[], object]:
    webhook, _ = webhooks.create(name="ci", fields={"url": "https://hooks.example.com/"})
    webhooks.pause(webhook, "The receiver answered 410: it is gone.", utc_now())
    return lambda: webhooks.resume(name="ci", actor="olga")


def agent_asks(service: Service) -> Callable[[], object]:
    task = service.task(Status.ACTIVE)
    agent = Caller("key:agent", Role.AGENT, task_id=task.pk)
    question, _ = questions.ask(task_id=task.pk, text="May I?", choices=["Approve"], actor=None, caller=agent)
    return lambda: questions.answer_question(question_id=question.pk, answer="Approve", actor="t", caller=None)


CONDITIONS = {
    AlertKind.TASK_WAITING: task_waits,
    AlertKind.TASK_ACTIVE: task_is_active_too_long,
    AlertKind.TASK_RETRIED: agents_fail_on_a_task,
    AlertKind.LEASE_EXPIRED: lease_expires,
    AlertKind.GITHUB: github_refuses,
    AlertKind.RATE_LIMIT: rate_limit_nears_its_end,
    AlertKind.TOKENS_REFUSED: tokens_are_refused,
    AlertKind.VAULT: vault_is_blocked,
    AlertKind.VAULT_BEHIND: vault_is_behind,
    AlertKind.COPY_OLD: copy_is_old,
    AlertKind.RESTORE_TEST: restore_fails,
    AlertKind.DISK: disk_fills,
    AlertKind.KEY_EXPIRES: key_expires,
    AlertKind.DAEMON_TROUBLE: daemon_is_in_trouble,
    AlertKind.WEBHOOK_PAUSED: webhook_is_paused,
    AlertKind.QUESTION: agent_asks,
}


def job_fails_and_works_again(service: Service) -> None:
    job = services.define_job(
        fields={"name": "import", "script": "hello.py", "schedule": "@daily", "long_after_seconds": 5}, actor="t"
    )
    for state, seconds in ((State.FAILED, 1.0), (State.SUCCESS, 9.0)):  # the second one takes too long, too
        run = runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="t")
        assert runs.record_start(run, Process(1, 1, "a boot"))
        runs.record_end(run, Ending(state, exit_code=0, duration=seconds))


def run_is_late(service: Service) -> None:
    job = services.define_job(
        fields={"name": "late", "script": "hello.py", "schedule": "@daily", "late_after_seconds": 5}, actor="t"
    )
    run = runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="t")
    type(run).objects.filter(pk=run.pk).update(queued_at=utc_now() - HOURS)
    rules.Watch().tick()


def daemon_was_down(service: Service) -> None:
    Daemon.objects.update(beat_at=utc_now() - 5 * HOURS)
    with transaction.atomic():
        rules.on_daemon_start(utc_now())
    Daemon.objects.update(beat_at=utc_now())


def holders_die(service: Service) -> None:
    with transaction.atomic():
        rules.on_task_failed(1, "three leases expired")


def budget_is_spent(service: Service) -> None:
    save_budget(Budget(scope="all", name="", period="total", limit_usd=Decimal(1)))
    report = Report("m", cost_usd=Decimal(2))
    record_cost(task_id=service.task(Status.ACTIVE).pk, report=report, caller=audit.SYSTEM)
    rules.Watch().tick()


def digest_is_due(service: Service) -> None:
    AlertSchedule(pk=AlertSchedule.PK, digest_at=time(0, 0)).save()
    Watch().tick()


def somebody_tests(service: Service) -> None:
    [url] = service.settings.ALERT_URLS
    alert_services.send_test(fingerprint=secret_fields.fingerprint(url), actor="olga")


TRANSITIONS = (
    *(job_fails_and_works_again, run_is_late, daemon_was_down, holders_die, budget_is_spent, digest_is_due),
    somebody_tests,
)


def sent() -> list[tuple[str, bool]]:
    return list(Alert.objects.order_by("pk").values_list("kind", "is_over"))


def titles(place: Receiver) -> list[str]:
    return [json.loads(body)["title"].removeprefix("[prod] ") for body in place.bodies]


def deliver() -> None:
    while AlertSender().tick():
        pass


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=ABOUT_COPIES if kind in (AlertKind.COPY_OLD, AlertKind.RESTORE_TEST) else ())
        for kind in CONDITIONS
    ],
    ids=str,
)
def test_a_condition_is_raised_once_and_resolved_once(service: Service, kind: AlertKind) -> None:
    Watch().tick()
    assert sent() == []
    end = CONDITIONS[kind](service)
    for _ in range(2):
        Watch().tick()
    assert sent() == [(kind, False)]
    alert, row = Alert.objects.get(), RaisedAlert.objects.get()
    assert alert.body == f"{row.body}\nhttps://ops.example.com{row.path}" if row.path else row.body
    assert row.body, "it says what to do"
    end()
    for _ in range(2):
        Watch().tick()
    assert sent() == [(kind, False), (kind, True)]
    assert RaisedAlert.objects.get().resolved_at is not None


@ABOUT_COPIES
def test_each_kind_of_alert_is_received(service: Service, place: Receiver) -> None:
    for make in TRANSITIONS:
        make(service)
    ends = []
    for kind in (*(kind for kind in CONDITIONS if kind is not AlertKind.RATE_LIMIT), AlertKind.RATE_LIMIT):
        if kind is AlertKind.RATE_LIMIT:
            ends.pop(list(CONDITIONS).index(AlertKind.GITHUB))()  # a refusal says more than the limit
        ends.append(CONDITIONS[kind](service))
        Watch().tick()
    deliver()
    assert set(Alert.objects.filter(state=Delivery.SENT).values_list("kind", flat=True)) == set(AlertKind)
    assert sorted(titles(place)) == sorted(Alert.objects.values_list("title", flat=True))


def test_every_kind_says_when_it_is_raised_and_what_to_do() -> None:
    assert set(kinds.KINDS) == set(AlertKind)
    documented = (ROOT / "docs" / "alerts.md").read_text()
    for current in kinds.load().values():
        assert f"| {current.kind.name.label} | {current.severity} |" in documented
        assert "{" not in current.when
        assert current.kind.remedy.endswith(".")


@ABOUT_COPIES
def test_what_is_over_is_received_as_a_success(service: Service, place: Receiver) -> None:
    daemon_is_in_trouble(service)()
    end = restore_fails(service)
    Watch().tick()
    end()
    Watch().tick()
    deliver()
    first, second = sorted((json.loads(body) for body in place.bodies), key=lambda message: message["type"])
    assert (first["type"], first["title"]) == ("failure", "[prod] c.gz can't be restored: it is damaged")
    assert (second["type"], second["title"]) == ("success", "[prod] Over: c.gz can't be restored: it is damaged")
    assert "Run `manage.py backup` now" in first["message"]


def test_an_acknowledged_problem_is_not_raised_while_that_holds(service: Service) -> None:
    daemon_is_in_trouble(service)
    problems.acknowledge(key="daemon trouble", by="olga", hours=8)
    with time_machine.travel(utc_now(), tick=False) as clock:
        Watch().tick()
        assert sent() == []
        clock.shift(9 * HOURS)
        Daemon.objects.update(beat_at=utc_now())
        Watch().tick()
    assert sent() == [(AlertKind.DAEMON_TROUBLE, False)]


def test_a_snoozed_kind_is_raised_when_the_snooze_ends_and_it_still_lasts(
    service: Service, operator_client: Client
) -> None:
    snooze = {"kind": AlertKind.DAEMON_TROUBLE, "hours": "8"}
    assert (
        "is snoozed for 8 h" in operator_client.post("/admin/jobs/alert/snooze/", snooze, follow=True).content.decode()
    )
    daemon_is_in_trouble(service)
    Watch().tick()
    assert sent() == []
    operator_client.post("/admin/jobs/alert/snooze/", {**snooze, "hours": "0"})
    Watch().tick()
    assert sent() == [(AlertKind.DAEMON_TROUBLE, False)]
    wrong = operator_client.post("/admin/jobs/alert/snooze/", {"kind": "none", "hours": "8"})
    assert wrong.status_code == 404


def test_a_kind_that_is_off_is_not_sent(service: Service) -> None:
    AlertSetting.objects.create(kind=AlertKind.FAILING, is_on=False)
    AlertSetting.objects.create(kind=AlertKind.DAEMON_TROUBLE, is_on=False)
    job_fails_and_works_again(service)
    daemon_is_in_trouble(service)
    Watch().tick()
    states = dict(Alert.objects.values_list("kind", "state"))
    assert states[AlertKind.FAILING] == Delivery.SNOOZED
    assert AlertKind.DAEMON_TROUBLE not in states


def test_quiet_hours_keep_back_what_is_not_critical(service: Service, place: Receiver) -> None:
    AlertSchedule(pk=AlertSchedule.PK, quiet_from=time(22), quiet_until=time(7), timezone="Europe/Berlin").save()
    with time_machine.travel(datetime(2026, 3, 2, 23, 30, tzinfo=UTC), tick=False) as clock:
        Daemon.objects.update(beat_at=utc_now(), trouble="it can't do a thing")
        github_refuses(service)
        Watch().tick()
        deliver()
        assert titles(place) == ["it can't do a thing"]
        clock.move_to(datetime(2026, 3, 3, 5, 59, tzinfo=UTC))
        deliver()
        assert len(place.bodies) == 1
        clock.move_to(datetime(2026, 3, 3, 6, 0, tzinfo=UTC))
        deliver()
    assert titles(place)[1:] == ["GitHub gave no token when it was last asked: GitHub refuses (403)"]


def test_a_kind_goes_to_its_own_recipients_in_place_of_everybody_s(
    service: Service, place: Receiver, operator_client: Client
) -> None:
    page = f"/admin/jobs/alertsetting/{AlertKind.DAEMON_TROUBLE}/change/"
    url = f"json://127.0.0.1:{place.port}/oncall-secret"
    answer = operator_client.post(page, {"is_on": "on", "severity": "warning", "urls": url}, follow=True)
    assert answer.redirect_chain[-1][0] == "/admin/jobs/alert/"
    assert "oncall-secret" not in text(operator_client, page) + text(operator_client, "/admin/jobs/alert/")
    kept = {"is_on": "on", "severity": "warning", "urls": "json://127.0.0.1/…"}
    operator_client.post(page, kept)
    daemon_is_in_trouble(service)
    Watch().tick()
    deliver()
    assert place.paths == ["/oncall-secret"]
    assert Alert.objects.get().severity == Severity.WARNING
    refused = operator_client.post(page, {"is_on": "on", "severity": "", "urls": "nonsense"})
    assert "is not a URL" in refused.content.decode()


def test_a_threshold_decides_when_a_kind_is_raised(service: Service, operator_client: Client) -> None:
    task_waits(service)
    page = f"/admin/jobs/alertsetting/{AlertKind.TASK_WAITING}/change/"
    operator_client.post(page, {"is_on": "on", "severity": "", "threshold": "180", "urls": ""})
    Watch().tick()
    assert sent() == []
    operator_client.post(page, {"is_on": "on", "severity": "", "threshold": "90", "urls": ""})
    Watch().tick()
    assert Alert.objects.get().title.endswith("waits for longer than 1 h 30 min.")
    assert "more than 90 minutes" in text(operator_client, "/admin/jobs/alert/")


def test_the_digest_is_sent_once_a_day_at_its_hour(service: Service, operator_client: Client) -> None:
    page = "/admin/jobs/alertschedule/1/change/"
    values = {"timezone": "Europe/Berlin", "quiet_from": "", "quiet_until": "", "digest_at": "08:00"}
    operator_client.post(page, values)
    github_refuses(service)
    with time_machine.travel(datetime(2026, 3, 2, 6, 59, tzinfo=UTC), tick=False) as clock:
        Daemon.objects.update(beat_at=utc_now())
        Watch().tick()
        assert not Alert.objects.filter(kind=AlertKind.DIGEST).exists()
        for hours in (1, 1, 23, 1):
            clock.shift(hours * HOURS)
            Daemon.objects.update(beat_at=utc_now())
            Watch().tick()
    first, second = Alert.objects.filter(kind=AlertKind.DIGEST).order_by("pk")
    assert second.created_at - first.created_at == 24 * HOURS
    assert first.title == "Daily digest: 1 problem"
    assert "- GitHub gave no token when it was last asked" in first.body
    assert "- alerts raised: 1, of which 0 are over" in first.body
    one_end = operator_client.post(page, {**values, "quiet_from": "22:00"})
    assert "Set both ends of the quiet hours" in one_end.content.decode()
    nowhere = operator_client.post(page, {**values, "timezone": "Mars"})
    assert "There is no such timezone" in nowhere.content.decode()


@ABOUT_COPIES
def test_the_page_says_what_is_raised_and_what_to_do(service: Service, operator_client: Client) -> None:
    assert "No alert about the service is open" in text(operator_client, "/admin/jobs/alert/")
    restore_fails(service)
    Watch().tick()
    page = text(operator_client, "/admin/jobs/alert/")
    assert "c.gz can&#x27;t be restored: it is damaged" in page
    for current in kinds.load().values():
        assert f'id="kind-{current.kind.name}"' in page
    assert operator_client.get("/admin/jobs/alertsetting/").status_code == 302
    assert operator_client.get("/admin/jobs/alertschedule/", follow=True).status_code == 200
    assert operator_client.get("/admin/jobs/alertsetting/none/change/").status_code == 302
