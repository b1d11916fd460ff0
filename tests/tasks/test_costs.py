"""What tasks cost: reported over REST, priced, summed up, shown."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.test import Client

from access.keys import create_key
from core.callers import Role
from core.errors import Unavailable
from tasks.costs import prices, services
from tasks.models import Cost
from tasks.services import create_task, update_task
from tests.support.pages import text

pytestmark = pytest.mark.django_db
PATH = "/api/v1/costs"


@pytest.fixture
def number() -> int:
    return create_task(fields={"name": "Write", "type": "research", "repos": ["org/app", "org/docs"]}, actor=None).pk


@pytest.fixture
def agent(number: int) -> Client:
    key = create_key(name="agent", role=Role.AGENT, actor="test", task_number=number)
    return Client(REMOTE_ADDR="10.9.8.7", headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def march() -> Iterator[time_machine.Traveller]:
    with time_machine.travel("2026-03-10 12:00:00+00:00", tick=False) as traveller:
        yield traveller


def post(client: Client, **body: Any) -> Any:
    return client.post(PATH, {"model": "m", **body}, content_type="application/json")


def test_a_report_is_recorded_with_its_task_s_type_and_repository(agent: Client, number: int) -> None:
    answer = post(agent, task_id=f"T{number}", model=" opus ", input_tokens=10, output_tokens=5, cost_usd=0.25)
    assert (answer.status_code, answer.json()["cost_usd"], answer.json()["budget"]) == (201, 0.25, None)
    [cost] = agent.get(PATH).json()
    assert cost.pop("recorded_at")
    assert cost == {
        "id": answer.json()["id"],
        "task_id": f"T{number}",
        "type": "research",
        "repo": "org/app",
        "model": "opus",
        **{"input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 0, "cache_write_tokens": 0},
        **{"cost_usd": 0.25, "price": "caller", "source": None},
    }


def test_a_repeat_with_the_same_source_counts_once(agent: Client, number: int) -> None:
    first = post(agent, task_id=number, output_tokens=7, cost_usd=1, source="turn-1")
    again = post(agent, task_id=number, output_tokens=7, cost_usd=1, source="turn-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = post(agent, task_id=number, output_tokens=8, cost_usd=1, source="turn-1")
    assert (other.status_code, "turn-1" in other.json()["error"]) == (409, True)
    assert post(agent, task_id=number, output_tokens=7, cost_usd=1, source="turn-2").status_code == 201
    assert Cost.objects.count() == 2


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"output_tokens": 1.5}, "output_tokens"),
        ({"output_tokens": "many"}, "output_tokens"),
        ({"cache_read_tokens": 10**11}, "cache_read_tokens"),
        ({"cost_usd": -0.01}, "cost_usd"),
        ({"cost_usd": "much"}, "cost_usd"),
        ({"cost_usd": 1e300}, "cost_usd"),
        ({"cost_usd": True}, "cost_usd"),
        ({"source": " "}, "source"),
        ({"repo": "org/other"}, "repo"),
        ({"task_id": "x"}, "task_id"),
        ({"task_id": True}, "task_id"),
        ({"task_id": None}, "task_id"),
    ],
)
def test_what_makes_no_sense_is_named(client: Client, number: int, body: dict[str, Any], word: str) -> None:
    answer = post(client, **{"task_id": number, **body})
    assert (answer.status_code, answer.json()["error"].partition(" ")[0]) == (400, word)


def test_a_cost_may_name_one_of_the_task_s_repositories(agent: Client, number: int) -> None:
    assert post(agent, task_id=number, cost_usd=1, repo="ORG/docs").status_code == 201
    assert [cost["repo"] for cost in agent.get(PATH, {"repo": "org/docs"}).json()] == ["ORG/docs"]
    assert agent.get(PATH, {"repo": "org/app"}).json() == []


def test_an_agent_reports_and_sees_what_its_own_task_costs_also_when_that_is_over(
    agent: Client, client: Client, number: int
) -> None:
    other = create_task(fields={"name": "Another's"}, actor=None).pk
    post(client, task_id=other, cost_usd=1)
    for refused in (post(agent, task_id=other), post(agent, task_id=987654), agent.get(PATH, {"task_id": other})):
        assert refused.status_code == 404
    assert post(client, task_id=987654).status_code == 404
    assert agent.get(f"{PATH}/summary").status_code == 403
    update_task(task_id=number, changes={"status": "completed"}, actor=None)
    assert post(agent, task_id=number, cost_usd=2).status_code == 201
    assert [cost["cost_usd"] for cost in agent.get(PATH).json()] == [2.0]
    assert len(client.get(PATH).json()) == 2


def test_a_list_comes_in_pages(client: Client, number: int) -> None:
    for cost in range(3):
        post(client, task_id=number, cost_usd=cost)
    first = client.get(PATH, {"limit": 2, "task_id": f"T{number}"})
    assert [cost["cost_usd"] for cost in first.json()] == [2.0, 1.0]
    path = first.headers["Link"].partition(">")[0].removeprefix("<")
    last = client.get(path)
    assert ([cost["cost_usd"] for cost in last.json()], "Link" in last.headers) == ([0.0], False)


def test_sums_are_by_day_type_model_and_repository(client: Client, number: int, march: time_machine.Traveller) -> None:
    bare = create_task(fields={"name": "no repository"}, actor=None).pk
    post(client, task_id=number, cost_usd=1, model="opus", input_tokens=10, cache_read_tokens=1)
    march.move_to("2026-03-11 00:00:00+00:00")
    post(client, task_id=bare, cost_usd=0.5, model="opus", output_tokens=3)
    post(client, task_id=bare, model="haiku", output_tokens=4)
    summary = client.get(f"{PATH}/summary", {"days": 3}).json()
    assert summary["since"] == "2026-03-09"
    tokens = {"input_tokens": 10, "output_tokens": 7, "cache_read_tokens": 1, "cache_write_tokens": 0}
    assert summary["total"] == {"cost_usd": 1.5, "reports": 3, "unpriced": 1, **tokens}
    by_day = [(each["day"], each["cost_usd"], each["unpriced"]) for each in summary["by_day"]]
    assert by_day == [("2026-03-09", 0, 0), ("2026-03-10", 1, 0), ("2026-03-11", 0.5, 1)]
    assert [(each["type"], each["cost_usd"]) for each in summary["by_type"]] == [("research", 1), ("swe", 0.5)]
    assert [(each["model"], each["cost_usd"]) for each in summary["by_model"]] == [("opus", 1.5), ("haiku", 0)]
    assert [(each["repo"], each["cost_usd"]) for each in summary["by_repo"]] == [("org/app", 1), ("", 0.5)]
    assert client.get(f"{PATH}/summary", {"days": 1}).json()["total"]["cost_usd"] == 0.5
    for days in ("0", "367", "x"):
        assert client.get(f"{PATH}/summary", {"days": days}).status_code == 400


# --- prices
def test_prices_that_the_caller_does_not_know_come_from_the_list(client: Client, number: int) -> None:
    tokens = {"input_tokens": 100_000, "output_tokens": 10_000, "cache_read_tokens": 50_000, "cache_write_tokens": 1000}
    for model in ("claude-sonnet-4-5", "anthropic/claude-sonnet-4-5", "no-such-model"):
        assert post(client, task_id=number, model=model, **tokens).json()["cost_usd"] is None
    assert prices.Pricer().tick() is False
    expected = 0.46875  # 0.3 + 0.15 + 0.015 + 0.00375
    shown = {cost["model"]: (cost["cost_usd"], cost["price"]) for cost in client.get(PATH).json()}
    assert shown == {
        "claude-sonnet-4-5": (expected, "list"),
        "anthropic/claude-sonnet-4-5": (expected, "list"),
        "no-such-model": (None, "unknown"),
    }
    total = client.get(f"{PATH}/summary").json()["total"]
    assert (total["cost_usd"], total["reports"], total["unpriced"]) == (2 * expected, 3, 1)


def test_without_costs_to_price_no_process_is_started(client: Client, number: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(prices, "_PROGRAM", "/nowhere")
    post(client, task_id=number, cost_usd=1)
    assert prices.Pricer().tick() is False
    post(client, task_id=number, output_tokens=1)
    with pytest.raises(Unavailable, match="nowhere"):
        prices.Pricer().tick()
    assert Cost.objects.filter(price="pending").count() == 1


# --- pages
def test_operators_see_what_was_spent_and_on_what(operator_client: Client, number: int) -> None:
    assert "nothing was reported" in text(operator_client, "/admin/costs/")
    post(operator_client, task_id=number, cost_usd=12.3, model="<opus>", input_tokens=1_234_567)
    post(operator_client, task_id=number, model="haiku")
    page = text(operator_client, "/admin/costs/?days=7")
    assert "$12.30 in 7 days" in page
    assert page.count('class="step"') == 7
    for words in ("&lt;opus&gt;", "research", "org/app", "1,234,567", "1 of the reports have no price yet"):
        assert words in page
    assert "$12.30 in 30 days" in text(operator_client, "/admin/costs/?days=nonsense")
    task = text(operator_client, f"/admin/tasks/task/{number}/change/")
    assert "$12.30" in task
    assert f"T{number}" in text(operator_client, f"/admin/tasks/cost/?q=T{number}")


def test_who_sees_no_costs_has_no_page_of_them(client: Client, seeded: None) -> None:
    viewer = User.objects.create_user("vera", is_staff=True)
    client.force_login(viewer)
    assert client.get("/admin/costs/").status_code == 403
    viewer.groups.add(Group.objects.get(name="Viewers"))
    assert client.get("/admin/costs/").status_code == 200


def test_metrics_have_the_spend(client: Client, number: int) -> None:
    post(client, task_id=number, cost_usd=0.5, model="opus", input_tokens=10)
    post(client, task_id=number, cost_usd=0.25, model="opus", input_tokens=5)
    exposed = client.get("/metrics").content.decode()
    labels = 'type="research",repo="org/app",model="opus"'
    figures = dict(line.rsplit(" ", 1) for line in exposed.splitlines() if not line.startswith("#"))
    found = {"".join(sorted(name)): value for name, value in figures.items()}
    for name, value in ((f"lobwife_cost_usd_total{{{labels}}}", 0.75), ("lobwife_budgets_spent", 0)):
        assert float(found["".join(sorted(name))]) == value
    assert any("lobwife_model_tokens_total" in name and 'kind="input"' in name for name in figures)
    assert Decimal(str(sum(cost.cost_usd or 0 for cost in Cost.objects.all()))) == Decimal("0.75")


def test_an_agent_can_t_spend_the_budgets_of_all(agent: Client, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert post(agent, task_id=number, model="m", cost_usd=100_000).status_code == 400
    assert post(agent, task_id=number, model="m", cost_usd=1).status_code == 201
    monkeypatch.setattr(services, "_REPORTS_OF_AGENT", 1)
    answer = post(agent, task_id=number, model="m", cost_usd=1)
    assert answer.status_code == 409
    assert "the most that its agent may make" in answer.json()["error"]
