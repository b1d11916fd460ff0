"""The page of costs: what was spent, on what, and which budgets are left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ops import charts
from tasks.costs.budgets import spent_of
from tasks.costs.models import Budget, SpentBudget, dollars
from tasks.costs.queries import Sums, summary
from tasks.costs.spent import current

DAYS = (7, 30, 90)
_DEFAULT_DAYS = 30
_MOST_ROWS = 12
_HEADINGS = {"type": "By type", "model": "By model", "repo": "By repository"}


@dataclass(frozen=True)
class Share:
    """A row of a table: what one type, model or repository cost, and its share of the most that one did."""

    sums: Sums
    percent: float


@dataclass(frozen=True)
class BudgetRow:
    """A budget, what is spent of it where it is for one thing, and what it has stopped."""

    budget: Budget
    spent: Decimal | None
    percent: int | None
    stops: list[SpentBudget]


def context(days: str) -> dict[str, Any]:
    """Return what the page needs, of so many days."""
    chosen = int(days) if days in {str(each) for each in DAYS} else _DEFAULT_DAYS
    spent_sums = summary(chosen)
    by_day = spent_sums.groups["day"]
    moments = [datetime.fromisoformat(sums.name).replace(tzinfo=UTC) for sums in by_day]
    spent = charts.Series("spent", [float(sums.cost_usd) for sums in by_day])
    return {
        "days": chosen,
        "choices": DAYS,
        "total": spent_sums.total,
        "plot": charts.plot("By day", moments, [spent], write=dollars, as_bars=True),
        "tables": [(heading, _shares(spent_sums.groups[name])) for name, heading in _HEADINGS.items()],
        "budgets": _budgets(),
    }


def _shares(each: list[Sums]) -> list[Share]:
    most = max((sums.cost_usd for sums in each), default=Decimal(0)) or Decimal(1)
    return [Share(sums, round(float(100 * sums.cost_usd / most), 1)) for sums in each[:_MOST_ROWS]]


def _budgets() -> list[BudgetRow]:
    stops: dict[int, list[SpentBudget]] = {}
    for spent in current().select_related("budget"):
        stops.setdefault(spent.budget_id, []).append(spent)
    return [_budget(budget, stops.get(budget.pk, [])) for budget in Budget.objects.all()]


def _budget(budget: Budget, stops: list[SpentBudget]) -> BudgetRow:
    if not budget.is_for_one:
        return BudgetRow(budget, None, None, stops)
    spent = sum(spent_of(budget).values(), Decimal(0))
    percent = round(100 * spent / budget.limit_usd) if budget.limit_usd else 100
    return BudgetRow(budget, spent, percent, stops)
