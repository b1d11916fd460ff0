"""Costs of tasks and budgets, in tables of their own. Money is US dollars, days are UTC's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def _dollars(**options: Any) -> models.DecimalField[Any, Any]:
    return models.DecimalField(max_digits=20, decimal_places=6, **options)


class Price(models.TextChoices):
    """Where the price of a cost comes from."""

    CALLER = "caller", "The caller"
    PENDING = "pending", "Not looked up yet"
    LIST = "list", "The price list"
    UNKNOWN = "unknown", "Nowhere: the list has no such model"


class Usage(models.Model):
    """Tokens that were used. Cached ones come besides the input tokens."""

    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cache_read_tokens = models.PositiveBigIntegerField(default=0)
    cache_write_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        abstract = True


class Cost(Usage):
    """One report of what a task has used. Type and repository are those of the report's time."""

    task_id = models.PositiveBigIntegerField()
    type = models.TextField()
    repo = models.TextField(blank=True, default="", verbose_name="repository")
    model = models.TextField()
    cost_usd = _dollars(null=True)
    price = models.TextField(choices=Price.choices, verbose_name="price from")
    source = models.TextField(null=True, help_text="The caller's name for the report, so that a repeat counts once.")
    recorded_at = models.DateTimeField()
    recorded_by = models.TextField(blank=True, default="")

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["task_id", "source"], name="cost_counts_once")]
        indexes: ClassVar = [
            models.Index(fields=["task_id", "id"], name="costs_of_task"),
            models.Index(fields=["id"], name="costs_to_price", condition=Q(price="pending")),
        ]

    def __str__(self) -> str:
        return f"{self.model} for T{self.task_id}"


class DailySpend(Usage):
    """The sum of a day's costs of a type, a repository and a model; what pages, metrics and budgets read."""

    day = models.DateField()
    type = models.TextField()
    repo = models.TextField(blank=True, default="")
    model = models.TextField()
    reports = models.PositiveBigIntegerField(default=0)
    unpriced = models.PositiveBigIntegerField(default=0, help_text="How many of the reports have no price.")
    cost_usd = _dollars(default=Decimal(0))

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["day", "type", "repo", "model"], name="one_sum_per_day"),
        ]

    def __str__(self) -> str:
        return f"{self.model} on {self.day}"


class Scope(models.TextChoices):
    """What a budget is for."""

    TASK = "task", "A task"
    TYPE = "type", "A type"
    REPO = "repo", "A repository"
    ALL = "all", "All tasks together"


class Period(models.TextChoices):
    """How long a budget is to last."""

    DAY = "day", "a day"
    MONTH = "month", "a month"
    TOTAL = "total", "in all"


class Budget(models.Model):
    """An amount that may be spent: on what, and in which time."""

    scope = models.TextField("for", choices=Scope.choices)
    name = models.TextField(blank=True, default="")
    period = models.TextField(choices=Period.choices)
    limit_usd = _dollars(verbose_name="limit in US dollars")

    class Meta:
        ordering: ClassVar = ["scope", "name", "period"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["scope", "name", "period"], name="one_budget")]

    def __str__(self) -> str:
        return f"the budget of {self.of}, {dollars(self.limit_usd)} {self.get_period_display()}"

    @property
    def of(self) -> str:
        return self.subject(self.name)

    @property
    def is_for_one(self) -> bool:
        """Return whether there is one sum to hold against it, not one for each task, type or repository."""
        return bool(self.name) or self.scope == Scope.ALL

    def subject(self, name: str) -> str:
        """Return what it is for, as in a sentence."""
        if self.scope == Scope.ALL:
            return "all tasks"
        kind = Scope(self.scope).label.removeprefix("A ")
        if not name:
            return f"each {kind}"
        return name if self.scope == Scope.TASK else f"{kind} {name}"


class SpentBudget(models.Model):
    """A budget that is spent, until its period is over or it is raised."""

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="spent")
    name = models.TextField(blank=True, help_text="The task, type or repository, in lower case; empty for all tasks.")
    since = models.DateField(help_text="The first day of the period.")
    until = models.DateField(null=True, help_text="The first day after it.")
    spent_usd = _dollars()
    spent_at = models.DateTimeField()
    alerted_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["budget", "name", "since"], name="budget_spent_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["name"], name="spent_budgets_of")]

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> str:
        budget = self.budget
        amount = f"{dollars(budget.limit_usd)} {budget.get_period_display()}"
        return f"the budget of {budget.subject(self.name)}, {amount}, is spent"


def dollars(amount: Decimal | float | None) -> str:
    """Format an amount: `$12.30`, and small ones exactly enough to be seen."""
    if amount is None:
        return "–"
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.4f}"
