"""Budgets: when one is spent, its tasks are stopped, one alert goes out, and raising it lets them go on."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.test import Client

from broker import follower
from broker.audit import SYSTEM
from broker.models import GitHubState, IssuedToken
from broker.services import register_task
from broker.tokens import issue
from core.errors import Forbidden
from core.timestamps import utc_now
from jobs.alerts.rules import Watch
from jobs.models import Alert
from tasks.costs.budgets import delete_budgets, save_budget
from tasks.costs.services import Report, record_cost, set_prices
from tasks.costs.spent import spent_budget
from tasks.models import Budget, SpentBudget, Task, TaskEvent
from tasks.services import create_task
from tests.support.pages import text

pytestmark = pytest.mark.django_db


@pytest.fixture
def march() -> Iterator[time_machine.Traveller]:
    with time_machine.travel("2026-03-31 12:00:00+00:00", tick=False) as traveller:
        yield traveller


def task(**fields: Any) -> Task:
    return create_task(fields={"name": "x", "status": "active", **fields}, actor=None)


def spend(of: Task, dollars: float, **options: Any) -> None:
    report = Report("m", cost_usd=Decimal(str(dollars)), **options)
    record_cost(task_id=of.pk, report=report, caller=SYSTEM)


def budget(scope: str, name: str = "", period: str = "total", limit: float = 5) -> Budget:
    made = Budget(scope=scope, name=name, period=period, limit_usd=Decimal(str(limit)))
    save_budget(made)
    return made


def live_token(of: Task) -> None:
    times = dict.fromkeys(("minted_at", "expires_at", "refresh_at"), utc_now())
    IssuedToken.objects.create(key=f"task:{of.pk}", generation=0, permissions="{}", event_id=0, **times)


def test_without_a_budget_nothing_is_stopped() -> None:
    one = task()
    spend(one, 1000)
    assert spent_budget(one) is None


@pytest.mark.parametrize(
    ("scope", "name", "subject"),
    [
        ("task", "T{}", "T{}"),
        ("task", "", "T{}"),
        ("type", "swe", "type swe"),
        ("type", "", "type swe"),
        ("repo", "Org/App", "repository org/app"),
        ("repo", "", "repository org/app"),
        ("all", "", "all tasks"),
    ],
)
def test_a_budget_stops_its_tasks_once_it_is_spent(scope: str, name: str, subject: str) -> None:
    one = task(repos=["org/app", "org/docs"])
    other = task(type="research", repos=["org/other"])
    budget(scope, name.format(one.pk))
    spend(other, 2.99 if scope == "all" else 4.99)
    spend(one, 2 if scope == "all" else 4.99)
    assert (spent_budget(one), spent_budget(other)) == (None, None)
    spend(one, 0.01)
    sentence = f"the budget of {subject.format(one.pk)}, $5.00 in all, is spent"
    assert spent_budget(one) == sentence
    assert spent_budget(other) == (sentence if scope == "all" else None)


def test_a_task_with_a_budget_of_its_own_has_no_general_one() -> None:
    one, other = task(), task()
    budget("task", limit=1)
    own = budget("task", f"T{one.pk}", limit=50)
    for each in (one, other):
        spend(each, 10)
    assert spent_budget(one) is None
    assert spent_budget(other) is not None
    delete_budgets([own])
    assert spent_budget(one) is not None


def test_a_day_s_budget_is_back_on_the_next_and_a_month_s_in_the_next(march: time_machine.Traveller) -> None:
    one = task()
    budget("all", period="day", limit=1)
    spend(one, 1)
    assert "a day" in str(spent_budget(one))
    march.move_to("2026-04-01 00:00:00+00:00")
    assert spent_budget(one) is None
    budget("type", "swe", period="month", limit=2)
    spend(one, 0.99)
    assert spent_budget(one) is None, "what was spent in March is March's"
    march.move_to("2026-04-02 00:00:00+00:00")
    spend(one, 1.01)
    assert {spent.budget.period for spent in SpentBudget.objects.filter(since__gte="2026-04-01")} == {"day", "month"}
    march.move_to("2026-04-30 23:59:59+00:00")
    assert "a month" in str(spent_budget(one))
    march.move_to("2026-05-01 00:00:00+00:00")
    assert spent_budget(one) is None


def test_who_raises_a_budget_lets_its_tasks_go_on_and_who_lowers_it_stops_them() -> None:
    one = task()
    spend(one, 10)
    limit = budget("type", "swe", limit=20)
    assert spent_budget(one) is None
    for amount, is_spent in ((10, True), (11, False), (5, True)):
        limit.limit_usd = Decimal(amount)
        save_budget(limit)
        assert (spent_budget(one) is not None) is is_spent


def test_a_price_that_is_looked_up_counts() -> None:
    one = task()
    budget("task", limit=1)
    cost, _ = record_cost(task_id=one.pk, report=Report("m", {"output_tokens": 9}), caller=SYSTEM)
    assert spent_budget(one) is None
    set_prices({cost.pk: Decimal("1.0000001")})
    set_prices({cost.pk: Decimal(7)})  # it has one already
    assert spent_budget(one) is not None
    assert SpentBudget.objects.get().spent_usd == 1


def test_the_histories_of_tasks_in_work_say_it_once() -> None:
    working, waiting, over = task(), task(status="queued"), task(status="completed")
    budget("type", "swe")
    for _ in range(3):
        spend(working, 5)
    assert list(TaskEvent.objects.filter(event_type="budget_spent").values_list("task_id", "detail")) == [
        (working.pk, "The budget of type swe, $5.00 in all, is spent")
    ]
    assert spent_budget(waiting) == spent_budget(over) == "the budget of type swe, $5.00 in all, is spent"


def test_the_caller_who_spends_the_last_of_it_is_told(client: Client) -> None:
    one = task()
    budget("task")
    body = {"task_id": one.pk, "model": "m", "cost_usd": 5}
    answer = client.post("/api/v1/costs", body, content_type="application/json")
    assert answer.json()["budget"] == f"the budget of T{one.pk}, $5.00 in all, is spent"


# --- alerts
def test_one_alert_goes_out_for_a_budget_that_is_spent(settings: LazySettings) -> None:
    settings.ALERT_URLS = ("json://127.0.0.1:1/a", "json://127.0.0.1:1/b")
    one = task()
    limit = budget("type", "swe")
    for _ in range(3):
        spend(one, 5.25)
        Watch().tick()
    alerts = list(Alert.objects.order_by("id"))
    assert [alert.destination for alert in alerts] == [alert.destination for alert in alerts][:2]
    assert {alert.kind for alert in alerts} == {"budget"}
    assert alerts[0].title == "The budget of type swe, $5.00 in all, is spent"
    assert "$5.25 were spent. Until you raise it" in alerts[0].body
    limit.limit_usd = Decimal(20)
    save_budget(limit)
    spend(one, 5.25)
    Watch().tick()
    assert Alert.objects.count() == 4, "raised, and spent again"


# --- tokens
def test_the_tokens_of_a_stopped_task_end_and_it_gets_no_more(settings: LazySettings) -> None:
    settings.GH_APP_ID = "1"
    one, other = task(repos=["org/app"]), task(repos=["org/app"])
    for each in (one, other):
        register_task(task_id=each.pk, repos=["org/app"], lobster_type="swe", caller=SYSTEM)
        live_token(each)
    follower.reconcile()
    GitHubState.objects.update_or_create(pk=1, defaults={"cursor": 0})
    limit = budget("task", one.task_id)
    spend(one, 5)
    follower.follow()
    assert dict(IssuedToken.objects.values_list("key", "state")) == {
        f"task:{one.pk}": "ended",
        f"task:{other.pk}": "live",
    }
    assert "the budget of" in IssuedToken.objects.get(key=f"task:{one.pk}").reason
    with pytest.raises(Forbidden, match="the budget of"):
        issue._right_of_task(one.task_id, None, None)
    limit.limit_usd = Decimal(6)
    save_budget(limit)
    assert issue._right_of_task(one.task_id, None, None).task_number == one.pk


def test_an_event_that_only_says_so_ends_no_tokens(client: Client) -> None:
    one = task()
    live_token(one)
    GitHubState.objects.update_or_create(pk=1, defaults={"cursor": 0})
    event = {"event_type": "budget_spent"}
    assert client.post(f"/api/v1/tasks/{one.pk}/events", event, content_type="application/json").status_code == 201
    follower.follow()
    assert IssuedToken.objects.get().state == "live"


# --- the admin
def test_an_operator_sets_changes_and_removes_a_budget(operator_client: Client) -> None:
    one = task()
    spend(one, 5)
    form = {"scope": "task", "name": str(one.pk), "period": "total", "limit_usd": "5"}
    assert "<h1>Add budget</h1>" in operator_client.get("/admin/tasks/budget/add/").content.decode()
    assert operator_client.post("/admin/tasks/budget/add/", form).status_code == 302
    made = Budget.objects.get()
    assert made.name == one.task_id
    assert spent_budget(one) is not None
    for path in ("/admin/costs/", "/admin/tasks/budget/"):
        assert "spent</span>" in text(operator_client, path)
    assert "is spent." in text(operator_client, f"/admin/tasks/task/{one.pk}/change/")
    path = f"/admin/tasks/budget/{made.pk}"
    assert operator_client.post(f"{path}/change/", {**form, "name": one.task_id, "limit_usd": "9"}).status_code == 302
    assert spent_budget(one) is None
    assert "money left" in text(operator_client, "/admin/costs/")
    operator_client.post(f"{path}/change/", {**form, "name": one.task_id})
    assert operator_client.post(f"{path}/delete/", {"post": "yes"}).status_code == 302
    assert (Budget.objects.count(), SpentBudget.objects.count(), spent_budget(one)) == (0, 0, None)


def test_the_form_of_a_budget_offers_a_limit_that_it_takes(operator_client: Client) -> None:
    path = f"/admin/tasks/budget/{budget('type', 'swe', period='day', limit=25).pk}/change/"
    assert 'name="limit_usd" value="25.00"' in text(operator_client, path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scope": "all", "name": "x"}, "Leave this empty"),
        ({"scope": "task", "name": "x"}, "such as T42"),
        ({"limit_usd": "0"}, "greater than or equal to 0.01"),
        ({"scope": "type", "name": "swe", "period": "day"}, "There is a budget for this"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(operator_client: Client, fields: Any, words: str) -> None:
    budget("type", "swe", period="day")
    form = {"scope": "type", "name": "", "period": "total", "limit_usd": "5", **fields}
    answer = operator_client.post("/admin/tasks/budget/add/", form)
    assert words in answer.content.decode()
    assert Budget.objects.count() == 1
