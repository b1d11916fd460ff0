"""Which budgets are spent now: what claims, heartbeats and tokens ask before they let a task go on."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from core.database.statements import read_one
from core.timestamps import utc_now
from tasks.costs.models import Scope, SpentBudget
from tasks.models import Task

# Every heartbeat asks it: 10 microseconds, through the ORM 350.
_ANY = "SELECT 1 FROM tasks_spentbudget WHERE until IS NULL OR until > %s LIMIT 1"


def spent_budget(task: Task) -> str | None:
    """Return the sentence about a budget of the task that is spent; None while there is money left."""
    names = {
        Scope.TASK: {task.task_id},
        Scope.TYPE: {task.type},
        Scope.REPO: {repo.lower() for repo in task.repo_list or ()},
        Scope.ALL: {""},
    }
    every = set().union(*names.values())
    for spent in current().filter(name__in=every).select_related("budget"):
        if spent.name in names[Scope(spent.budget.scope)]:
            return spent.sentence
    return None


def spent_budget_of(task_id: int | None) -> str | None:
    """Return what `spent_budget` says about the task with this id; None where there is no such task."""
    if task_id is None or read_one(_ANY, (utc_now().date().isoformat(),)) is None:
        return None
    task = Task.objects.filter(pk=task_id).first()
    return spent_budget(task) if task is not None else None


def current() -> QuerySet[SpentBudget]:
    """Return the budgets that are spent now."""
    return SpentBudget.objects.filter(Q(until__isnull=True) | Q(until__gt=utc_now().date()))
