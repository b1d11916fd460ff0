"""The list of runs in the admin: a range of time, days, states, why each failed; and a summary by job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, Max, QuerySet, Sum, TextField, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse

from core.display import ReadOnlyAdmin, by_day
from core.errors import Invalid, LobwifeError
from core.timestamps import utc_now
from jobs import time_range
from jobs.admin.run_page import CHANGE_RUN
from jobs.execution import queue_reasons, reasons, runs
from jobs.models import ACTIVE, FAILURES, Job, JobRun, State, Trigger

_JOBS_LISTED = 1000
FAILED = "failures"
_STATES: dict[str, tuple[str, ...]] = {
    FAILED: FAILURES,
    "active": ACTIVE,
    **{state: (state,) for state in State.values},
}
_SUMMARY_ROWS = 50


class JobFilter(admin.SimpleListFilter):
    """Filter by job, by its name."""

    title = "job"
    parameter_name = "job"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(str(self.value()), str(self.value())), ("", "all")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> QuerySet[JobRun]:
        return queryset.filter(job__name=self.value()) if self.value() else queryset


class StateFilter(admin.SimpleListFilter):
    """Filter by state, or by all that are failures."""

    title = "state"
    parameter_name = "state"
    more_parameters = ("state__exact",)

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        if "state__exact" in params:  # as the addresses of earlier versions have it
            params.setdefault("state", params.pop("state__exact"))
        super().__init__(request, params, model, model_admin)

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name, *self.more_parameters]

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(name, name) for name in _STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> QuerySet[JobRun]:
        states = _STATES.get(str(self.value() or ""))
        if states is None or set(states) <= set(ACTIVE):
            return queryset.filter(state__in=states) if states else queryset
        # An expression keeps databases from sorting every run of a state for one page: they read by time instead.
        return queryset.alias(state_text=Coalesce("state", Value(""), output_field=TextField())).filter(
            state_text__in=states
        )


class RangeFilter(admin.SimpleListFilter):
    """Filter by time: `range` is one of the presets, or `since` and `until` are times."""

    title = "time"
    parameter_name = "range"
    more_parameters = ("since", "until")

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        for name in self.more_parameters:
            params.pop(name, None)
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> tuple[tuple[str, str], ...]:
        return time_range.PRESETS

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name, *self.more_parameters]

    def queryset(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> QuerySet[JobRun]:
        return within(queryset, chosen_range(request))


class RunList(ReadOnlyAdmin):
    """What JobRunAdmin's list is made of."""

    change_list_template = "admin/jobs/run_list.html"
    live_events = "run.*"
    list_filter = (RangeFilter, JobFilter, StateFilter, "trigger", "queued_at")
    search_fields = ("job__name", "note", "requested_by")
    list_select_related = ("job",)
    list_per_page = 50
    show_full_result_count = False
    ordering = ("-queued_at", "-id")
    actions = ("retry_selected", "abort_selected")

    def get_queryset(self, request: HttpRequest) -> QuerySet[JobRun]:
        runs = super().get_queryset(request)
        return runs.none() if getattr(request, "is_summary", False) else runs  # its page has no list

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        waits_for = queue_reasons.for_runs(changelist.result_list)
        why = reasons.by_run(changelist.result_list)
        for run in changelist.result_list:  # never saved: the list is all that they are for
            run.reason = queue_reasons.with_note(why[run.pk], waits_for.get(run.pk))
        return changelist

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        chosen = chosen_range(request)
        names = list(Job.objects.order_by("name").values_list("name", flat=True)[:_JOBS_LISTED])
        context: dict[str, Any] = {
            "range": chosen,
            "presets": [(name, label, _query(request, range=name)) for name, label in time_range.PRESETS],
            "any_time": _query(request),
            "states": [
                (name, _query(request, drop=("state",), state=name)) for name in (FAILED, "active", State.SUCCESS)
            ],
            "any_state": _query(request, drop=("state",)),
            "state": request.GET.get("state", ""),
            "job_name": request.GET.get("job", ""),
            "job_names": names,
            "view": request.GET.get("view", ""),
            "views_list": _query(request, drop=("view",)),
            "views_jobs": _query(request, drop=("view",), view="jobs"),
            "may_act": self.has_retry_permission(request),
        }
        if context["view"] == "jobs":
            context["summary"], context["more_jobs"] = summary(chosen, context["job_name"])
            request.is_summary = True  # type: ignore[attr-defined]
        request.GET = _without(request.GET, "view")  # type: ignore[assignment]
        response = super().changelist_view(request, {**(extra_context or {}), **context})
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            response.context_data["days"] = by_day(response.context_data["cl"].result_list, lambda run: run.queued_at)
        return response

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether runs may be retried and aborted."""
        return request.user.has_perm(CHANGE_RUN)

    @admin.action(description="Run again", permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> None:
        who = request.user.get_username()
        self._to_each(
            request, queryset, "queued again", partial(runs.retry_run, requested_by=who, trigger=Trigger.OPERATOR)
        )

    @admin.action(description="Abort", permissions=["retry"])
    def abort_selected(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> None:
        self._to_each(request, queryset, "being ended", partial(runs.abort_run, actor=request.user.get_username()))

    def _to_each(self, request: HttpRequest, queryset: QuerySet[JobRun], what: str, act: Any) -> None:
        """Act on each run and say in one sentence how it went."""
        done, refused = 0, []
        for run in queryset.order_by("id"):
            try:
                act(run_id=run.pk)
                done += 1
            except LobwifeError as error:
                refused.append(f"run {run.pk}: {error}")
        if done:
            messages.success(request, f"{done} run{'' if done == 1 else 's'} {'is' if done == 1 else 'are'} {what}.")
        if refused:
            more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
            messages.warning(request, f"{len(refused)} refused: {'; '.join(refused[:3])}{more}.")


def chosen_range(request: HttpRequest) -> time_range.TimeRange:
    """Return the range of the address; all of time where it can't be read."""
    try:
        return time_range.read(request.GET, utc_now())
    except Invalid:
        return time_range.TimeRange()


def within(queryset: QuerySet[JobRun], chosen: time_range.TimeRange) -> QuerySet[JobRun]:
    """Return the runs of a range, by when they were asked for."""
    if chosen.since:
        queryset = queryset.filter(queued_at__gte=chosen.since)
    return queryset.filter(queued_at__lt=chosen.until) if chosen.until else queryset


@dataclass
class JobSummary:
    """How the runs of a job in a time ended, and the last one of them that failed."""

    job_id: int
    name: str = ""
    succeeded: int = 0
    failed: int = 0
    others: int = 0
    seconds: float = 0
    last_failed: int | None = None
    last_failed_at: datetime | None = None
    reason: str = ""


def summary(chosen: time_range.TimeRange, job_name: str) -> tuple[list[JobSummary], int]:
    """Sum up the runs of a range by job, those with most failures first; and count the jobs beyond a page of them."""
    queryset = within(JobRun.objects.order_by(), chosen)
    if job_name:
        queryset = queryset.filter(job__name=job_name)
    counted = queryset.values_list("job_id", "state").annotate(Count("pk"), Sum("duration"), Max("pk"))
    by_job: dict[int, JobSummary] = {}
    for job_id, state, count, seconds, newest in counted:
        row = by_job.setdefault(job_id, JobSummary(job_id))
        row.seconds += seconds or 0
        if state == State.SUCCESS:
            row.succeeded += count
        elif state in FAILURES:
            row.failed += count
            row.last_failed = max(newest, row.last_failed or 0)
        else:
            row.others += count
    names = dict(Job.objects.filter(pk__in=by_job).values_list("pk", "name"))
    for row in by_job.values():
        row.name = names.get(row.job_id, "")
    rows = sorted(by_job.values(), key=lambda row: (-row.failed, row.name))[:_SUMMARY_ROWS]
    failed = JobRun.objects.defer("definition").in_bulk([row.last_failed for row in rows if row.last_failed])
    why = reasons.by_run(failed.values())
    for row in rows:
        if row.last_failed in failed:
            run = failed[row.last_failed]
            row.reason, row.last_failed_at = why[run.pk], run.queued_at
    return rows, len(by_job) - len(rows)


def _query(request: HttpRequest, drop: tuple[str, ...] = ("range", "since", "until"), **values: str) -> str:
    """Return the address' parameters without the page and some others, and with new values."""
    parameters = request.GET.copy()
    for name in ("p", "e", *drop):
        parameters.pop(name, None)
    for name, value in values.items():
        parameters[name] = value
    return f"?{parameters.urlencode()}"


def _without(parameters: QueryDict, name: str) -> QueryDict:
    others = parameters.copy()
    others.pop(name, None)
    return others
