"""The writes to costs: each counts once, is added to its day, and is held against the budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from django.db import transaction
from django.db.models import F

from core.callers import Caller
from core.errors import Conflict, Invalid
from core.timestamps import utc_now
from tasks.costs.budgets import judge
from tasks.costs.models import TOKENS, Cost, DailySpend, Price
from tasks.models import Task
from tasks.services import get_task

_PRECISION = Decimal("0.000001")
# One agent is not to spend the budgets of all, or to fill the disk.
_MOST_OF_AGENT = Decimal(1000)
_REPORTS_OF_AGENT = 10_000


@dataclass(frozen=True, slots=True)
class Report:
    """What a task has used; without a price, that is looked up."""

    model: str
    tokens: Mapping[str, int] = field(default_factory=dict)  # by the names of TOKENS
    cost_usd: Decimal | None = None
    repo: str | None = None
    source: str | None = None


def record_cost(*, task_id: int, report: Report, caller: Caller) -> tuple[Cost, bool]:
    """Record a report; return it, and whether it is new: one with the same source is there already.

    Raises NotFound, Invalid, and Conflict for a source that was another report's, or when an agent made enough of them.
    """
    if caller.is_agent and (report.cost_usd or 0) > _MOST_OF_AGENT:
        raise Invalid(f"cost_usd is at most {_MOST_OF_AGENT} in one report of an agent")
    with transaction.atomic():
        task = get_task(task_id)
        if report.source is not None:
            recorded = Cost.objects.filter(task_id=task_id, source=report.source).first()
            if recorded is not None:
                _check_same(recorded, report)
                return recorded, False
        if caller.is_agent and Cost.objects.filter(task_id=task_id).count() >= _REPORTS_OF_AGENT:
            raise Conflict(f"{task.task_id} has {_REPORTS_OF_AGENT:,} reports, the most that its agent may make")
        price = Price.CALLER if report.cost_usd is not None else Price.PENDING
        cost = Cost(task_id=task_id, type=task.type, repo=_repository(task, report.repo, caller), model=report.model)
        for name in TOKENS:
            setattr(cost, name, report.tokens.get(name, 0))
        cost.cost_usd, cost.price, cost.source = report.cost_usd, price, report.source
        cost.recorded_at, cost.recorded_by = utc_now(), caller.name
        cost.save(force_insert=True)
        day = _day_of(cost)
        _add(
            day,
            reports=1,
            unpriced=int(report.cost_usd is None),
            cost_usd=report.cost_usd or Decimal(0),
            **{name: getattr(cost, name) for name in TOKENS},
        )
        if report.cost_usd:
            judge(cost, cost.recorded_at)
    return cost, True


def set_prices(prices: Mapping[int, Decimal | None]) -> None:
    """Set the prices of costs that wait for one, by their ids; None for a model that has none."""
    now = utc_now()
    with transaction.atomic():
        for cost in Cost.objects.filter(pk__in=prices, price=Price.PENDING).order_by("pk"):
            amount = prices[cost.pk]
            amount = None if amount is None else amount.quantize(_PRECISION)
            price = Price.UNKNOWN if amount is None else Price.LIST
            Cost.objects.filter(pk=cost.pk).update(cost_usd=amount, price=price)
            if amount is not None:
                _add(_day_of(cost), unpriced=-1, cost_usd=amount)
                judge(cost, now)


def _check_same(recorded: Cost, report: Report) -> None:
    """Raise Conflict unless a report with the same source says the same."""
    tokens = {name: getattr(recorded, name) for name in TOKENS}
    sent = {name: report.tokens.get(name, 0) for name in TOKENS}
    if (recorded.model, tokens) != (report.model, sent):
        raise Conflict(f"the source {report.source!r} of T{recorded.task_id} had other numbers: name each report anew")


def _repository(task: Task, repo: str | None, caller: Caller) -> str:
    """Return the repository that a cost counts for: the one named, else the task's first; raises Invalid."""
    repos = task.repo_list or []
    if not repo:
        return repos[0] if repos else ""
    if repo.lower() not in [name.lower() for name in repos] and (repos or caller.is_agent):
        raise Invalid(f"repo must be one of the task's repositories: {', '.join(repos[:10]) or 'it has none'}")
    return repo


def _day_of(cost: Cost) -> DailySpend:
    day = cost.recorded_at.date()
    return DailySpend.objects.get_or_create(day=day, type=cost.type, repo=cost.repo, model=cost.model)[0]


def _add(day: DailySpend, **amounts: int | Decimal) -> None:
    DailySpend.objects.filter(pk=day.pk).update(**{name: F(name) + amount for name, amount in amounts.items()})
