"""Reads of costs: lists, sums of days, sums of a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Count, QuerySet, Sum

from core.timestamps import seconds_text, utc_now
from tasks.costs.models import TOKENS, Cost, DailySpend
from tasks.costs.spent import spent_budget
from tasks.models import Task

GROUPS = ("day", "type", "model", "repo")
_SUMS = {name: Sum(name, default=0) for name in (*TOKENS, "reports", "unpriced")}
_COST = Sum("cost_usd", default=Decimal(0))


class CostPage(NamedTuple):
    """Costs, newest first; `before_id` is the id to go on below, None on the last page."""

    costs: list[Cost]
    before_id: int | None


class Sums(NamedTuple):
    """What was spent on one day, type, model or repository."""

    name: str
    cost_usd: Decimal
    reports: int
    unpriced: int
    tokens: dict[str, int]

    @property
    def all_tokens(self) -> int:
        return sum(self.tokens.values())


@dataclass(frozen=True)
class Summary:
    """What was spent in the last days, in all and by each of GROUPS; days without costs are there too."""

    since: date
    total: Sums
    groups: dict[str, list[Sums]]


class TaskCosts(NamedTuple):
    """What a task has cost, and the sentence about a budget that stops it."""

    reports: int
    cost_usd: Decimal
    tokens: int
    stopped: str | None


def cost_list(
    *,
    task_id: int | None,
    type: str | None,
    model: str | None,
    repo: str | None,
    since: datetime | None,
    before_id: int | None,
    limit: int,
) -> CostPage:
    """Return a page of costs, newest first: all of them, or those that fit each filter."""
    filters = {
        "task_id": task_id,
        "type": type,
        "model": model,
        "repo__iexact": repo,
        "recorded_at__gte": since,
        "pk__lt": before_id,
    }
    rows = Cost.objects.filter(**{name: value for name, value in filters.items() if value is not None})
    costs = list(rows.order_by("-pk")[: limit + 1])
    return CostPage(costs[:limit], costs[limit - 1].pk if 0 < limit < len(costs) else None)


def as_json(cost: Cost) -> dict[str, Any]:
    """Return a cost as REST answers it."""
    return {
        "id": cost.pk,
        "task_id": f"T{cost.task_id}",
        "type": cost.type,
        "repo": cost.repo or None,
        "model": cost.model,
        **{name: getattr(cost, name) for name in TOKENS},
        "cost_usd": as_float(cost.cost_usd),
        "price": cost.price,
        "source": cost.source,
        "recorded_at": seconds_text(cost.recorded_at),
    }


def summary(days: int) -> Summary:
    """Return what was spent in the last days, today's included; the dearest first, days in their order."""
    today = utc_now().date()
    since = today - timedelta(days=days - 1)
    rows = DailySpend.objects.filter(day__gte=since).order_by()
    groups = {name: sorted(_grouped(rows, name), key=lambda sums: -sums.cost_usd) for name in GROUPS}
    by_day = {sums.name: sums for sums in groups["day"]}
    names = [str(since + timedelta(days=number)) for number in range(days)]
    groups["day"] = [by_day.get(name) or Sums(name, Decimal(0), 0, 0, dict.fromkeys(TOKENS, 0)) for name in names]
    return Summary(since, _total(groups["day"]), groups)


def summary_as_json(found: Summary) -> dict[str, Any]:
    """Return a summary as REST answers it."""
    groups = {
        f"by_{name}": [{name: each.name, **_sums_as_json(each)} for each in found.groups[name]] for name in GROUPS
    }
    return {"since": str(found.since), "total": _sums_as_json(found.total), **groups}


def costs_of(task: Task) -> TaskCosts:
    """Return what a task has cost."""
    sums = {name: Sum(name, default=0) for name in TOKENS}
    row = Cost.objects.filter(task_id=task.pk).aggregate(reports=Count("pk"), cost_usd=_COST, **sums)
    return TaskCosts(row["reports"], row["cost_usd"], sum(row[name] for name in TOKENS), spent_budget(task))


def as_float(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _grouped(rows: QuerySet[DailySpend], name: str) -> list[Sums]:
    # Not named as the columns are: an annotation must not hide a field that another one reads.
    sums = {f"sum_{column}": aggregate for column, aggregate in _SUMS.items()}
    grouped = rows.values(name).annotate(sum_cost=_COST, **sums)
    return [
        Sums(
            name=str(row[name]),
            cost_usd=row["sum_cost"],
            reports=row["sum_reports"],
            unpriced=row["sum_unpriced"],
            tokens={column: row[f"sum_{column}"] for column in TOKENS},
        )
        for row in grouped
    ]


def _total(each: Sequence[Sums]) -> Sums:
    return Sums(
        name="",
        cost_usd=sum((sums.cost_usd for sums in each), Decimal(0)),
        reports=sum(sums.reports for sums in each),
        unpriced=sum(sums.unpriced for sums in each),
        tokens={name: sum(sums.tokens[name] for sums in each) for name in TOKENS},
    )


def _sums_as_json(sums: Sums) -> dict[str, Any]:
    return {"cost_usd": float(sums.cost_usd), "reports": sums.reports, "unpriced": sums.unpriced, **sums.tokens}
