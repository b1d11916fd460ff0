"""Tasks and their events in the admin. Every write goes through the services."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from core.callers import operator_of
from core.display import ReadOnlyAdmin, badge, exact, when
from core.errors import LobwifeError
from events.admin_log import RecordedAdmin
from tasks import services
from tasks.admin import bulk, csv_export, questions, task_page
from tasks.admin.filters import (
    AgeFilter,
    AssignedFilter,
    AttentionFilter,
    EventDayFilter,
    EventStatusFilter,
    PriorityFilter,
    StatusFilter,
    TypeFilter,
)
from tasks.admin.forms import TaskForm
from tasks.ids import include_typed_id, parse_typed_id
from tasks.leases import services as leases
from tasks.models import Task, TaskEvent, TaskLease, read_repos

_LONGEST_NAME = 90
_FIRST_REPOSITORIES = 1
# Named filters above the list; the address of any other is as good to keep.
_VIEWS: tuple[tuple[str, dict[str, str]], ...] = (
    ("All", {}),
    ("Needs attention", {"attention": "any"}),
    ("Queued", {"status": "queued"}),
    ("Active", {"status": "active"}),
    ("Blocked", {"status": "blocked"}),
    ("Failed, last 7 days", {"status": "failed", "age": "7"}),
)
_LEASES_SHOWN = 10


@admin.register(Task)
class TaskAdmin(RecordedAdmin):
    form = TaskForm
    list_display = ("number", "short_name", "state", "assignee", "priority", "type", "repositories", "age")
    list_display_links = ("number", "short_name")
    change_list_template = "admin/tasks/task_list.html"
    live_events = "task.*,lease.*"
    empty_text = "A task is a unit of an agent's work. Add one, or have programs make them with POST /api/v1/tasks."
    list_filter = (AttentionFilter, StatusFilter, TypeFilter, PriorityFilter, AssignedFilter, AgeFilter)
    search_fields = ("name", "slug", "assigned_to")
    search_help_text = "By id (42 or T42), name, slug or assignee"
    show_full_result_count = False
    list_per_page = 50
    change_form_template = "admin/tasks/task_form.html"
    readonly_fields = (
        *("created_time", "updated_time", "queued_time"),
        *("registered_repositories", "registration", "tokens_issued", "registered_time"),
    )
    _about: ClassVar = ("name", "slug", "status", "type", "priority", "assigned_to", "repos")
    fieldsets: ClassVar = [
        (None, {"fields": _about}),
        ("Work", {"fields": ("model", "estimate_minutes", "requires_qa", "workflow", "discord_thread_id")}),
        ("Times", {"fields": ("assigned_at", "completed_at", *readonly_fields[:3])}),
        ("Registration for GitHub tokens", {"fields": readonly_fields[3:]}),
    ]
    add_fieldsets: ClassVar = [
        (None, {"fields": ("name", "body", *_about[1:])}),
        ("Work", {"fields": ("model", "estimate_minutes", "requires_qa", "workflow", "discord_thread_id")}),
    ]

    class Media:
        css: ClassVar = {"all": ["tasks/admin.css"]}

    def get_fieldsets(self, request: HttpRequest, obj: Task | None = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else self.add_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Task | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "slug") if obj else ()  # a slug names the task for its agent: it stays

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("csv/", self.admin_site.admin_view(self.csv_view), name="tasks_task_csv"),
            path("<int:pk>/edit/", self.admin_site.admin_view(self.edit_view), name="tasks_task_edit"),
            path("<int:pk>/cancel/", self.admin_site.admin_view(self.cancel_view), name="tasks_task_cancel"),
            path("<int:pk>/take-away/", self.admin_site.admin_view(self.take_away_view), name="tasks_task_take_away"),
            path("<int:pk>/live/", self.admin_site.admin_view(self.live_view), name="tasks_task_live"),
        ]
        return [*own, *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().get_actions(request), **(bulk.ACTIONS if self.has_change_permission(request) else {})}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        results, has_duplicates = super().get_search_results(request, queryset, search_term)
        return include_typed_id(search_term, "pk", queryset, results), has_duplicates

    # --- writing
    def save_model(self, request: HttpRequest, obj: Task, form: Any, change: bool) -> None:
        values, caller = form.validated(), operator_of(request)
        if not change:
            body = values.pop("body", None)
            created = services.create_task(fields=values, body=body, actor=caller.identity, caller=caller)
            obj.pk, obj.name = created.pk, created.name
        elif values:
            services.update_task(task_id=obj.pk, changes=values, actor=caller.identity, caller=caller)
            obj.name = values.get("name", obj.name)  # for the sentence that says it was saved

    def has_delete_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        return False  # a task is cancelled; its row and history stay

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Cancel the one task whose page has the button."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        try:
            bulk.cancel_task(pk, operator_of(request))
        except LobwifeError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Task T{pk} is cancelled.")
        return redirect("admin:tasks_task_change", pk)

    @method_decorator(require_POST)
    def take_away_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Take the task from the holder that the page showed."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        caller, fence = operator_of(request), request.POST.get("fence", "")
        try:
            lease = leases.take_away(
                task_id=pk, actor=caller.identity, caller=caller, fence=int(fence) if fence.isdecimal() else -1
            )
        except LobwifeError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Task T{pk} was taken away from {lease.who}, and is queued again.")
        return redirect("admin:tasks_task_change", pk)

    # --- pages
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show the task; what is sent is a change of it, and a refused one shows the form."""
        task = self.get_object(request, object_id)
        if task is None or request.method not in {"GET", "HEAD"}:
            return self._form(request, object_id, task, extra_context)
        if not self.has_view_or_change_permission(request, task):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **self._context(request, task),
            **{"title": str(task), "opts": self.opts, "original": task, "tab": "overview", "media": self.media},
        }
        return TemplateResponse(request, "admin/tasks/task_view.html", context)

    def edit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the form of a task."""
        return self._form(request, str(pk), self.get_object(request, str(pk)))

    def _form(self, request: HttpRequest, object_id: str, task: Task | None, extra_context: Any = None) -> HttpResponse:
        context: dict[str, Any] = {"title": str(task), "subtitle": None, "task": task, "tab": "edit"} if task else {}
        context |= {"may_change": self.has_change_permission(request, task)}
        return super().change_view(request, object_id, "", {**(extra_context or {}), **context})

    def response_post_save_change(self, request: HttpRequest, obj: Task) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:tasks_task_change", args=[obj.pk]))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {**(extra_context or {}), "views": self._views(request), "query": request.GET.urlencode()}
        return super().changelist_view(request, context)

    def csv_view(self, request: HttpRequest) -> HttpResponseBase:
        """Return the list with the filters, search and order of the address, as CSV."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        try:
            changelist = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            return redirect("admin:tasks_task_changelist")
        return csv_export.as_csv(changelist.get_queryset(request))

    def _views(self, request: HttpRequest) -> list[tuple[str, str, bool]]:
        chosen = {name: value for name, value in request.GET.items() if name not in {"o", "p"}}
        page = reverse("admin:tasks_task_changelist")
        return [
            (name, f"{page}?{urlencode(filters)}" if filters else page, filters == chosen) for name, filters in _VIEWS
        ]

    def live_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Render the parts of a task's page that refresh in place: its status, events and note."""
        task = get_object_or_404(Task, pk=pk)
        if not self.has_view_permission(request, task):
            raise PermissionDenied
        return TemplateResponse(request, "admin/tasks/task_live.html", self._context(request, task))

    def _context(self, request: HttpRequest, task: Task) -> dict[str, Any]:
        may_change = self.has_change_permission(request, task)
        return {
            **task_page.context(task),
            "leases": TaskLease.objects.filter(task_id=task.pk).order_by("-fence")[:_LEASES_SHOWN],
            "may_change": may_change,
            **questions.of_task(task),
            "may_answer": questions.may_answer(request),
            "can_cancel": may_change and task.status not in services.UNCANCELLABLE,
        }

    # --- columns
    @admin.display(description="id", ordering="id")
    def number(self, task: Task) -> str:
        return task.task_id

    @admin.display(description="status", ordering="status")
    def state(self, task: Task) -> SafeString:
        return badge(task.status)

    @admin.display(description="name", ordering="name")
    def short_name(self, task: Task) -> str:
        return Truncator(task.name).chars(_LONGEST_NAME)

    @admin.display(description="assigned to", ordering="assigned_to")
    def assignee(self, task: Task) -> str:
        return task.assigned_to or "–"

    @admin.display(description="repositories")
    def repositories(self, task: Task) -> str:
        if not task.repos:
            return "–"
        names = read_repos(task.repos) or []
        more = len(names) - _FIRST_REPOSITORIES
        first = ", ".join(names[:_FIRST_REPOSITORIES])
        return (f"{first} +{more}" if more > 0 else first) or "unreadable"

    # --- fields that are read
    @admin.display(description="created")
    def created_time(self, task: Task) -> SafeString | str:
        return exact(task.created_at)

    @admin.display(description="changed")
    def updated_time(self, task: Task) -> SafeString | str:
        return exact(task.updated_at)

    @admin.display(description="queued")
    def queued_time(self, task: Task) -> SafeString | str:
        return exact(task.queued_at)

    @admin.display(description="repositories")
    def registered_repositories(self, task: Task) -> str:
        return "\n".join(read_repos(task.broker_repos) or []) or task.broker_repos or "–"

    @admin.display(description="status")
    def registration(self, task: Task) -> SafeString | str:
        return badge(task.broker_status) if task.broker_status else "not registered"

    @admin.display(description="tokens issued")
    def tokens_issued(self, task: Task) -> str:
        return str(task.token_count)

    @admin.display(description="registered")
    def registered_time(self, task: Task) -> SafeString | str:
        return exact(task.broker_registered_at)

    @admin.display(description="age", ordering="created_at")
    def age(self, task: Task) -> SafeString | str:
        return when(task.created) if task.created else "unknown"


@admin.register(TaskEvent)
class TaskEventAdmin(ReadOnlyAdmin):
    """The history of all tasks."""

    list_display = ("created_at", "of_task", "event_type", "what", "actor", "identity")
    live_events = "task.*,lease.*"
    empty_text = "Who created, took, changed and ended a task appears here, with what they wrote about it."
    list_display_links = None
    list_filter = (EventDayFilter, EventStatusFilter)
    search_fields = ("event_type", "detail", "actor", "caller")
    search_help_text = "By task (T42), type, detail or actor"
    show_full_result_count = False
    list_per_page = 100

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TaskEvent], search_term: str
    ) -> tuple[QuerySet[TaskEvent], bool]:
        number = parse_typed_id(search_term)
        if number is not None:
            return queryset.filter(task_id=number), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="detail")
    def what(self, event: TaskEvent) -> str:
        changes = "; ".join(f"{name}: {old} → {new}" for name, old, new in event.field_changes)
        return changes or event.detail or "–"

    @admin.display(description="caller", ordering="caller")
    def identity(self, event: TaskEvent) -> str:
        return (event.caller or "–").removeprefix("system:serviceaccount:")

    @admin.display(description="task", ordering="task_id")
    def of_task(self, event: TaskEvent) -> SafeString:
        url = reverse("admin:tasks_task_change", args=[event.task_id])
        return format_html('<a href="{}">T{}</a>', url, event.task_id)
