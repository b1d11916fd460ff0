"""Budgets: what is spent of them, which are spent, and what happens when one is.

A budget is judged when a cost is recorded and when an operator changes one, in that transaction. It is spent once for
its period: a row of SpentBudget says so, from which claims, tokens and alerts know it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import Q, Sum

from core.timestamps import utc_now
from events import services as feed
from tasks.costs.models import Budget, Cost, DailySpend, Period, Scope, SpentBudget
from tasks.costs.spent import current
from tasks.models import REGISTRATION_ACTIVE, Status, Task
from tasks.queries import with_repository
from tasks.services import log_event

SPENT = "budget_spent"  # the event of each task that is stopped by it
_BEGINNING = date(1970, 1, 1)


# --- reading
def spent_of(budget: Budget) -> dict[str, Decimal]:
    """Return what was spent in the budget's present period, by task, type or repository."""
    return _sums(budget, _period(budget, utc_now().date())[0], budget.name)


# --- writing
def save_budget(budget: Budget) -> None:
    """Save a budget and judge all of them anew: it may stand in for one that is for each."""
    with transaction.atomic():
        budget.save()
        _judge_all(utc_now())


def delete_budgets(budgets: Iterable[Budget]) -> None:
    """Delete budgets and judge the others anew."""
    with transaction.atomic():
        for budget in budgets:
            budget.delete()
        _judge_all(utc_now())


def judge(cost: Cost, now: datetime) -> None:
    """Judge the budgets that a cost counts for; call it in the transaction that records the cost."""
    names = {Scope.TASK: f"T{cost.task_id}", Scope.TYPE: cost.type, Scope.REPO: cost.repo.lower(), Scope.ALL: ""}
    budgets = list(Budget.objects.all())
    for budget in budgets:
        name = names[Scope(budget.scope)]
        if _concerns(budget, name, budgets):
            since, until = _period(budget, now.date())
            spent = _sums(budget, since, name).get(name, Decimal(0))
            if spent >= budget.limit_usd:
                _mark(budget, name, since, until, spent, now)


def _judge_all(now: datetime) -> None:
    budgets = list(Budget.objects.all())
    for budget in budgets:
        since, until = _period(budget, now.date())
        sums = _sums(budget, since, budget.name)
        over = {
            name: spent
            for name, spent in sums.items()
            if spent >= budget.limit_usd and _concerns(budget, name, budgets)
        }
        current().filter(budget=budget).exclude(name__in=over).delete()
        for name, spent in over.items():
            _mark(budget, name, since, until, spent, now)


def _mark(budget: Budget, name: str, since: date, until: date | None, spent: Decimal, now: datetime) -> None:
    """Mark a budget as spent, and tell so in the history of each task that it stops."""
    values = {"until": until, "spent_usd": spent, "spent_at": now}
    row, is_new = SpentBudget.objects.get_or_create(budget=budget, name=name, since=since, defaults=values)
    if not is_new:
        return
    amounts = {"limit_usd": float(budget.limit_usd), "spent_usd": float(spent)}
    about = {"scope": budget.scope, "name": name, "since": since, "until": until, **amounts}
    feed.append("budget.spent", f"the budget of {budget.subject(name)}", about)
    for task in _stopped_by(budget.scope, name):
        log_event(task_id=task.pk, event_type=SPENT, detail=f"T{row.sentence[1:]}", actor=None)


def _stopped_by(scope: str, name: str) -> Iterable[Task]:
    """Return the tasks of a budget that somebody works on, or that may have tokens."""
    tasks = Task.objects.open().filter(Q(status=Status.ACTIVE) | Q(broker_status=REGISTRATION_ACTIVE))
    if scope == Scope.TASK:
        return tasks.filter(pk=int(name[1:]))
    if scope == Scope.TYPE:
        return tasks.filter(type=name)
    return tasks.filter(with_repository(name)) if scope == Scope.REPO else tasks


def _concerns(budget: Budget, name: str, budgets: Iterable[Budget]) -> bool:
    """Return whether a budget is for that task, type or repository: by name, or for each that has none of its own."""
    if budget.scope == Scope.ALL:
        return True
    if not name:
        return False
    if budget.name:
        return _key(budget) == name
    own = (other for other in budgets if (other.scope, other.period) == (budget.scope, budget.period))
    return all(_key(other) != name for other in own)


def _key(budget: Budget) -> str:
    return budget.name.lower() if budget.scope == Scope.REPO else budget.name


def _period(budget: Budget, today: date) -> tuple[date, date | None]:
    """Return the first day of the present period, and the first one after it."""
    if budget.period == Period.DAY:
        return today, today + timedelta(days=1)
    if budget.period == Period.MONTH:
        first = today.replace(day=1)
        return first, (first + timedelta(days=31)).replace(day=1)
    return _BEGINNING, None


def _sums(budget: Budget, since: date, name: str) -> dict[str, Decimal]:
    """Return what was spent since that day, by task, type or repository: by one of them, if a name is given."""
    total = Sum("cost_usd", default=Decimal(0))
    if budget.scope == Scope.TASK:
        costs = Cost.objects.filter(recorded_at__gte=datetime.combine(since, time.min, UTC)).order_by()
        costs = costs.filter(task_id=int(name[1:])) if name else costs
        return {f"T{number}": spent for number, spent in costs.values_list("task_id").annotate(total)}
    days = DailySpend.objects.filter(day__gte=since).order_by()
    if budget.scope == Scope.ALL:
        return {"": days.aggregate(total=total)["total"]}
    column = "type" if budget.scope == Scope.TYPE else "repo"
    if name:
        days = days.filter(**{f"{column}__iexact" if budget.scope == Scope.REPO else column: name})
    sums: dict[str, Decimal] = {}
    for value, spent in days.values_list(column).annotate(total):
        key = value.lower() if budget.scope == Scope.REPO else value
        sums[key] = sums.get(key, Decimal(0)) + spent
    return sums
