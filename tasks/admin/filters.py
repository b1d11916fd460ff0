"""Filters of the list of tasks. Their values are fixed: the table is not read for them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from core.timestamps import seconds_text, utc_now
from tasks import overdue
from tasks.admin.forms import PRIORITIES, TYPES
from tasks.models import Status, Task, TaskEvent

_OTHER = "other"


class _UsualValues(admin.SimpleListFilter):
    """A filter by the usual values of a field, and by all others together."""

    usual_values: tuple[str, ...] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [*((value, value) for value in self.usual_values), (_OTHER, "other")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        value = self.value()
        if value == _OTHER:
            return queryset.exclude(**{f"{self.parameter_name}__in": self.usual_values})
        return queryset.filter(**{str(self.parameter_name): value}) if value else queryset


class AttentionFilter(admin.SimpleListFilter):
    """The tasks that wait for a person. The site has the limits: what operators decided about alerts."""

    title, parameter_name = "attention", "attention"

    def __init__(self, request: HttpRequest, params: Any, model: type[Task], model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self._site = model_admin.admin_site

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("any", "needs attention"), ("active", "active too long"), ("queued", "queued too long")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        value, now = self.value(), utc_now()
        if value not in {"any", "active", "queued"}:
            return queryset
        limits: overdue.Limits = self._site.overdue_limits()
        active = overdue.active_too_long(now, limits.active) if value != "queued" else []
        queued = overdue.queued_too_long(now, limits.queued) if value != "active" else []
        return queryset.filter(pk__in=[task.pk for task in (*active, *queued)])


class StatusFilter(_UsualValues):
    title, parameter_name, usual_values = "status", "status", tuple(Status.values)


class TypeFilter(_UsualValues):
    title, parameter_name, usual_values = "type", "type", TYPES


class PriorityFilter(_UsualValues):
    title, parameter_name, usual_values = "priority", "priority", PRIORITIES


class AssignedFilter(admin.SimpleListFilter):
    title, parameter_name = "assigned", "assigned"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("yes", "assigned"), ("no", "not assigned")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        nobody = Q(assigned_to__isnull=True) | Q(assigned_to="")
        choices = {"yes": ~nobody, "no": nobody}
        return queryset.filter(choices[str(self.value())]) if self.value() in choices else queryset


class AgeFilter(admin.SimpleListFilter):
    title, parameter_name = "age", "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("1", "up to a day"), ("7", "up to 7 days"), ("30", "up to 30 days"), ("more", "more than 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        value = self.value()
        if value not in {"1", "7", "30", "more"}:
            return queryset
        # By the day, so that both forms in which times are stored compare alike.
        day = seconds_text(utc_now() - timedelta(days=30 if value == "more" else int(value)))[:10]
        return queryset.filter(created_at__lt=day) if value == "more" else queryset.filter(created_at__gte=day)


class EventDayFilter(admin.SimpleListFilter):
    """The events of the last days; times are text of which the day comes first."""

    title, parameter_name = "when", "days"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("0", "today"), ("1", "since yesterday"), ("7", "last 7 days"), ("30", "last 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[TaskEvent]) -> QuerySet[TaskEvent]:
        value = self.value()
        if value not in {"0", "1", "7", "30"}:
            return queryset
        return queryset.filter(created_at__gte=seconds_text(utc_now() - timedelta(days=int(value)))[:10])


class EventStatusFilter(admin.SimpleListFilter):
    """The events after which a task had a status."""

    title, parameter_name = "status after it", "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(status, status) for status in Status.values]

    def queryset(self, request: HttpRequest, queryset: QuerySet[TaskEvent]) -> QuerySet[TaskEvent]:
        return queryset.filter(status=self.value()) if self.value() in Status.values else queryset
