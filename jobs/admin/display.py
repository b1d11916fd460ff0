"""Columns of jobs and runs in the admin beside those of their tables."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from jobs.models import Job, JobRun, JobState

_JOBS_LISTED = 100


def with_summary(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Jobs with `is_enabled`, `last_status` and `last_run` of their rows in `job_state`; a missing row is enabled."""
    state = JobState.objects.filter(name=OuterRef("name"))
    return jobs.annotate(
        is_enabled=Coalesce(Subquery(state.values("enabled")[:1]), Value(True)),
        last_status=Subquery(state.values("last_status")[:1]),
        last_run=Subquery(state.values("last_run")[:1]),
    )


class JobFilter(admin.SimpleListFilter):
    """By job; of very many only the first by name are listed, and the one that is chosen."""

    title = "job"
    parameter_name = "job"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        names = list(Job.objects.order_by("name").values_list("name", flat=True)[:_JOBS_LISTED])
        if self.value() and self.value() not in names:
            names.append(str(self.value()))
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> QuerySet[JobRun]:
        return queryset.filter(job__name=self.value()) if self.value() else queryset


class EnabledFilter(admin.SimpleListFilter):
    """By whether the schedule runs the job."""

    title = "enabled"
    parameter_name = "enabled"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(is_enabled=self.value() == "yes") if self.value() in {"yes", "no"} else queryset


class LastStatusFilter(admin.SimpleListFilter):
    """By how the last run ended."""

    title = "last status"
    parameter_name = "last_status"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(each, each) for each in ("success", "failed", "timeout", "error", "none")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "none":
            return queryset.filter(last_status=None)
        return queryset.filter(last_status=self.value()) if self.value() else queryset
