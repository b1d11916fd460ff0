"""Jobs, secrets and runs in the admin. Every write goes through the services."""

from __future__ import annotations

from typing import Any, ClassVar

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_apscheduler.models import DjangoJob, DjangoJobExecution

from core.display import badge, duration, when
from core.errors import LobwifeError
from events.admin_log import RecordedAdmin
from jobs import queries, secret_fields, secrets, services
from jobs.admin import job_page, run_page, views
from jobs.admin.forms import JobForm, SecretForm
from jobs.admin.run_list import RunList
from jobs.execution import runs
from jobs.models import FAILURES, Job, JobRun, Secret, State, Trigger
from jobs.scheduling import cron

# What their pages can do, such as running jobs within the web process, is done by the services.
for model in (DjangoJob, DjangoJobExecution):
    admin.site.unregister(model)
for model in (
    apps.get_app_config("procrastinate").get_models() if apps.is_installed("procrastinate.contrib.django") else ()
):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class EnabledFilter(admin.SimpleListFilter):
    """Filter by whether the schedule runs the job."""

    title = "enabled"
    parameter_name = "enabled"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(is_enabled=self.value() == "yes") if self.value() in {"yes", "no"} else queryset


class LastStatusFilter(admin.SimpleListFilter):
    """Filter by how the last run ended."""

    title = "last status"
    parameter_name = "last_status"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(status, status) for status in (State.SUCCESS, *FAILURES, State.ABORTED, "none")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "none":
            return queryset.filter(last_status=None)
        return queryset.filter(last_status=self.value()) if self.value() else queryset


class DeletesOneByOne(RecordedAdmin):
    """Deletes a single row, with a sentence when a service refuses: what goes with it is worth a look."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except LobwifeError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse(f"admin:jobs_{self.opts.model_name}_change", args=[object_id]))


@admin.register(Job)
class JobAdmin(DeletesOneByOne):
    form = JobForm
    list_display = ("name", "last", "next_run", "in_words", "switch")
    list_filter = (EnabledFilter, LastStatusFilter)
    search_fields = ("name", "description", "script")
    ordering = ("id",)
    list_per_page = 50
    actions = ("run_now", "enable", "disable")
    show_full_result_count = False
    readonly_fields = ("next_firings",)
    change_list_template = "admin/jobs/job_list.html"
    live_events = "run.*,admin.changed"
    change_form_template = "admin/jobs/job_form.html"
    fieldsets: ClassVar = [
        ("What runs", {"fields": ("name", "description", "script", "arguments", "working_directory", "runs_on")}),
        ("When", {"fields": (("schedule", "timezone"), "next_firings")}),
        ("Limits", {"fields": ("timeout_seconds", ("concurrency", "max_parallel"))}),
        ("Retries", {"fields": ("retries", ("retry_delay_seconds", "retry_delay_max_seconds"))}),
        ("Missed runs", {"fields": (("misfire", "misfire_max"), "start_deadline_seconds"), "classes": ("collapse",)}),
        (
            "Alerts",
            {
                "fields": (
                    ("alert_after_failures", "late_after_seconds", "long_after_seconds"),
                    *("alert_urls", "ping_url"),
                )
            },
        ),
        ("Variables and secrets", {"fields": ("environment", "secrets")}),
    ]

    class Media:
        css: ClassVar = {"all": ["jobs/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return queries.with_summary(super().get_queryset(request))

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("<int:pk>/settings/", self.admin_site.admin_view(self.settings_view), name="jobs_job_settings"),
            path("<int:pk>/live/", self.admin_site.admin_view(self.live_view), name="jobs_job_live"),
        ]
        return [*own, *views.job_urls(self.admin_site), *super().get_urls()]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Job | None:
        """Mask what is shown to those who may not change it; the form masks for the others."""
        job = super().get_object(request, object_id, from_field)
        if job is not None and not self.has_change_permission(request, job):
            secret_fields.mask_job(job)
        return job

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "name") if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Job, form: Any, change: bool) -> None:
        services.save_job(obj, actor=views.actor_of(request))

    # --- deletion
    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        lines = [f"{job.name} with its {JobRun.objects.filter(job=job).count()} runs and their output" for job in objs]
        return lines, {"jobs": len(lines)}, set(), []

    def delete_model(self, request: HttpRequest, obj: Job) -> None:
        services.delete_job(name=obj.name, actor=views.actor_of(request))

    # --- columns
    @admin.display(description="actions", ordering="is_enabled")
    def switch(self, job: Any) -> SafeString:
        """Return buttons of the list's own form, so that they work without a script."""
        verb = "disable" if job.is_enabled else "enable"
        if not job.may_change:
            return badge("enabled" if job.is_enabled else "disabled")
        off = "" if job.is_enabled else badge("disabled")
        button = '<button class="act" formmethod="post" formaction="{}" aria-label="{}">{}</button>'
        return format_html(
            "{} {} {}",
            off,
            format_html(button, reverse("admin:jobs_job_run", args=[job.pk]), f"Run {job.name} now", "Run"),
            format_html(
                button,
                reverse(f"admin:jobs_job_{verb}", args=[job.pk]),
                f"{verb.capitalize()} {job.name}",
                verb.capitalize(),
            ),
        )

    @admin.display(description="schedule in words", ordering="schedule")
    def in_words(self, job: Job) -> str:
        words = cron.describe_safely(job.schedule) if job.schedule else "–"
        has_time = ":" in words or job.timezone != "UTC"
        return f"{words} ({job.timezone})" if has_time else words

    @admin.display(description="next run", ordering="next_firing")
    def next_run(self, job: Any) -> SafeString | str:
        if not job.is_enabled:
            return "–"
        return badge(job.hold) if job.hold else when(queries.next_run(job))

    @admin.display(description="last run", ordering="last_status")
    def last(self, job: Any) -> SafeString | str:
        state = badge(job.active_state or job.last_status)
        if job.last_run_id is None:
            return state
        reason = (job.last_note or "") if job.last_status in FAILURES else ""
        return format_html(
            '{} <a href="{}">{}</a> <span class="quiet">{}</span>{}',
            state,
            reverse("admin:jobs_jobrun_change", args=[job.last_run_id]),
            when(job.last_run) if job.last_run else f"run {job.last_run_id}",
            duration(job.last_took) if job.last_took is not None else "",
            format_html('<div class="quiet reason-line">{}</div>', reason) if reason else "",
        )

    @admin.display(description="next firings")
    def next_firings(self, job: Job) -> SafeString:
        """They follow the fields as one types; live.js says when."""
        return format_html(
            '<div id="firings" class="firings" hx-get="{}" hx-trigger="preview" hx-include="{}">{}</div>',
            reverse("admin:jobs_job_preview"),
            "#id_schedule, #id_timezone",
            views.firings_shown(job.schedule, job.timezone) if job.schedule else "–",
        )

    # --- actions
    @admin.action(description="Run now", permissions=["change"])
    def run_now(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        for job in jobs:
            try:
                run = runs.request_run(name=job.name, trigger=Trigger.OPERATOR, requested_by=views.actor_of(request))
            except LobwifeError as error:
                messages.error(request, str(error))
            else:
                messages.success(request, f"Run {run.pk} of {job.name} is queued.")

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, jobs: QuerySet[Job], enabled: bool = True) -> None:
        for job in jobs:
            services.set_enabled(name=job.name, enabled=enabled, actor=views.actor_of(request))
        messages.success(request, f"{len(jobs)} {'enabled' if enabled else 'disabled'}.")

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        self.enable(request, jobs, enabled=False)

    # --- pages
    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        hold = queries.hold()
        for job in changelist.result_list:
            job.hold = hold
            job.may_change = self.has_change_permission(request)
        return changelist

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {**(extra_context or {}), "pause": services.pause(), "hold": queries.hold()}
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show how the job is doing; what is sent changes its settings, and a refused change shows the form."""
        job = self.get_object(request, object_id)
        if job is None or request.method not in {"GET", "HEAD"}:
            return self._form(request, object_id, job, extra_context)
        if not self.has_view_or_change_permission(request, job):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **job_page.context(request, job),
            **{"title": f"Job {job.name}", "opts": self.opts, "original": job, "tab": "overview", "media": self.media},
        }
        return TemplateResponse(request, "admin/jobs/job_view.html", context)

    def settings_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the form of a job."""
        return self._form(request, str(pk), self.get_object(request, str(pk)))

    def live_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Render the part of the overview that refreshes in place."""
        job = get_object_or_404(Job, pk=pk)
        if not self.has_view_permission(request, job):
            raise PermissionDenied
        return TemplateResponse(request, "admin/jobs/job_overview.html", job_page.context(request, job))

    def _form(self, request: HttpRequest, object_id: str, job: Job | None, extra_context: Any = None) -> HttpResponse:
        context = {**(extra_context or {}), "job": job, "pause": services.pause(), "hold": queries.hold()}
        if job:
            context |= {"title": f"Job {job.name}", "subtitle": None, "tab": "settings"}
        return super().change_view(request, object_id, "", context)


@admin.register(Secret)
class SecretAdmin(DeletesOneByOne):
    """Values go in and never come out."""

    form = SecretForm
    fields = ("name", "value")
    list_display = ("name", "used_by", "changed_at", "changed_by")
    empty_text = (
        "A secret is a value that a job gets as a variable, such as a token: encrypted here, masked in output, never"
        " shown again. Add one, then name it in the settings of a job."
    )
    search_fields = ("name",)
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: Secret | None = None) -> tuple[str, ...]:
        return ("name",) if obj else ()

    def get_fields(self, request: HttpRequest, obj: Secret | None = None) -> tuple[str, ...]:
        return ("name", "value") if self.has_change_permission(request, obj) else ("name", "changed_at", "changed_by")

    def save_model(self, request: HttpRequest, obj: Secret, form: Any, change: bool) -> None:
        stored = secrets.set_secret(name=obj.name, value=form.cleaned_data["value"], actor=views.actor_of(request))
        obj.pk = stored.pk

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:
        secrets.remove_secret(name=obj.name, actor=views.actor_of(request))

    @admin.display(description="used by")
    def used_by(self, secret: Secret) -> str:
        return ", ".join(secrets.users_of([secret.name])[secret.name]) or "–"


@admin.register(JobRun)
class JobRunAdmin(RunList):
    change_form_template = "admin/jobs/run_form.html"
    fieldsets: ClassVar = [
        (None, {"fields": ("job", "outcome", "note", "ended_how")}),
        ("When", {"fields": ("scheduled_for", "queued_at", "not_before", "started_at", "ended_at", "took")}),
        ("Why", {"fields": ("trigger", "requested_by", "attempt", "retry_of", "node", "abort_requested_by")}),
    ]
    readonly_fields = ("outcome", "ended_how", "took")

    class Media:
        css: ClassVar = {"all": ["jobs/admin.css", "jobs/palette.css"]}

    def get_urls(self) -> list[URLPattern]:
        return [*views.run_urls(self.admin_site), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        run = self.get_object(request, object_id)
        context = {**(extra_context or {})}
        if run:
            context |= {"title": f"Run {run.pk} of {run.job.name}", "subtitle": None, **run_page.context(request, run)}
        return super().change_view(request, object_id, form_url, context)

    @admin.display(description="state", ordering="state")
    def outcome(self, run: JobRun) -> SafeString | str:
        return badge(run.state)

    @admin.display(description="took", ordering="duration")
    def took(self, run: JobRun) -> str:
        return duration(run.duration)

    @admin.display(description="ended with")
    def ended_how(self, run: JobRun) -> str:
        if run.signal is not None:
            return f"signal {run.signal}"
        return "–" if run.exit_code is None else f"exit code {run.exit_code}"
