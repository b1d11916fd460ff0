"""Costs and budgets in the admin."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import NON_FIELD_ERRORS
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.conflicts import ConflictAwareForm
from core.display import ReadOnlyAdmin, badge, count, when
from events.admin_log import RecordedAdmin
from tasks.costs import budgets
from tasks.costs.models import TOKENS, Budget, Cost, Scope, dollars
from tasks.costs.spent import current
from tasks.ids import parse_typed_id

_LONGEST_NAME = 300
_NAME_HELP = "Which one: T42, swe, org/app. Empty: each of them has this budget, unless it has one of its own."


class BudgetForm(ConflictAwareForm[Budget]):
    """The form of a budget; a task is stored as `T42`."""

    name = forms.CharField(required=False, max_length=_LONGEST_NAME, help_text=_NAME_HELP)
    limit_usd = forms.DecimalField(
        label="Limit in US dollars", min_value=Decimal("0.01"), max_value=Decimal(10**8), decimal_places=2
    )

    class Meta:
        model = Budget
        fields = ("scope", "name", "period", "limit_usd")
        error_messages: ClassVar = {
            NON_FIELD_ERRORS: {
                "unique_together": "There is a budget for this and this period already: change that one."
            }
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        limit = self.initial.get("limit_usd")
        if limit is not None and limit == round(limit, 2):  # the column has six places, the field takes two
            self.initial["limit_usd"] = round(limit, 2)

    def clean(self) -> dict[str, Any]:
        scope, name = self.cleaned_data.get("scope"), self.cleaned_data.get("name", "")
        if scope == Scope.ALL and name:
            self.add_error("name", "Leave this empty: the budget is for all tasks together.")
        if scope == Scope.TASK and name:
            number = parse_typed_id(name)
            if number is None:
                self.add_error("name", "Name the task by its id, such as T42.")
            else:
                self.cleaned_data["name"] = f"T{number}"
        self.check_conflicts()
        return self.cleaned_data


@admin.register(Budget)
class BudgetAdmin(RecordedAdmin):
    form = BudgetForm
    list_display = ("of", "limit", "used", "state")
    empty_text = (
        "A budget ends what spends too much: of a task, a type, a repository or all tasks, in a day or a month."
    )
    list_filter = ("scope", "period")

    def save_model(self, request: HttpRequest, obj: Budget, form: Any, change: bool) -> None:
        budgets.save_budget(obj)

    def delete_model(self, request: HttpRequest, obj: Budget) -> None:
        budgets.delete_budgets([obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Budget]) -> None:
        budgets.delete_budgets(queryset)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """That a budget is spent goes with it, and is nobody's to delete by itself."""
        listed, counts, _, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(), protected

    @admin.display(description="of", ordering="scope")
    def of(self, budget: Budget) -> str:
        return budget.of

    @admin.display(ordering="limit_usd")
    def limit(self, budget: Budget) -> str:
        return f"{dollars(budget.limit_usd)} {budget.get_period_display()}"

    @admin.display(description="spent")
    def used(self, budget: Budget) -> str:
        return dollars(sum(budgets.spent_of(budget).values(), Decimal(0))) if budget.is_for_one else "–"

    @admin.display
    def state(self, budget: Budget) -> SafeString | str:
        stops = current().filter(budget=budget).count()
        if not stops:
            return "money left"
        return badge("spent") if budget.is_for_one else format_html("{} {}", badge("spent"), f"{stops} of them")


@admin.register(Cost)
class CostAdmin(ReadOnlyAdmin):
    """What agents have reported."""

    list_display = ("at", "of_task", "model", "type", "repo", "tokens", "cost", "price", "source", "recorded_by")
    list_display_links = None
    fields = ("at", "of_task", "type", "repo", "model", *TOKENS, "cost", "price", "source", "recorded_by")
    readonly_fields = ("at", "of_task", "cost")
    empty_text = "Agents report what they used with POST /api/v1/costs; each report becomes a row."
    list_filter = ("price",)
    search_fields = ("model", "repo", "source")
    search_help_text = "By task (T42), model, repository or source"
    show_full_result_count = False
    list_per_page = 100

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Cost], search_term: str
    ) -> tuple[QuerySet[Cost], bool]:
        number = parse_typed_id(search_term)
        if number is not None:
            return queryset.filter(task_id=number), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="recorded", ordering="recorded_at")
    def at(self, cost: Cost) -> SafeString | str:
        return when(cost.recorded_at)

    @admin.display(description="task", ordering="task_id")
    def of_task(self, cost: Cost) -> SafeString:
        return format_html(
            '<a href="{}">T{}</a>', reverse("admin:tasks_task_change", args=[cost.task_id]), cost.task_id
        )

    @admin.display
    def tokens(self, cost: Cost) -> str:
        return count(sum(getattr(cost, name) for name in TOKENS))

    @admin.display(ordering="cost_usd")
    def cost(self, cost: Cost) -> str:
        return dollars(cost.cost_usd)
