"""Tasks in the admin. Every write goes through the services, so each change is an event of the task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from lobwife.base.errors import LobwifeError
from lobwife.base.timestamps import iso_text, shown_in_seconds, utc_now
from tasks import attention, services
from tasks.forms import FIELDS, PRIORITIES, TaskForm
from tasks.models import Status, Task

_EVENTS_SHOWN = 200


class AttentionFilter(admin.SimpleListFilter):
    """The tasks that wait for a person."""

    title = "needs attention"
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("active", "Active too long"), ("queued", "Queued too long"), ("any", "Any of these")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        finds: dict[str, tuple[Callable[..., list[Task]], ...]] = {
            "active": (attention.active_too_long,),
            "queued": (attention.queued_too_long,),
            "any": (attention.active_too_long, attention.queued_too_long),
        }
        chosen = finds.get(self.value() or "")
        if chosen is None:
            return queryset
        return queryset.filter(pk__in=[task.pk for find in chosen for task in find(utc_now())])


class StatusFilter(admin.SimpleListFilter):
    """By where a task stands."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(str(value), str(label)) for value, label in Status.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        return queryset.filter(status=self.value()) if self.value() else queryset


@admin.register(Task)
class TaskAdmin(admin.ModelAdmin[Task]):
    form = TaskForm
    list_display = ("task_id", "name", "state", "type", "priority", "assigned_to", "queued")
    list_display_links = ("task_id", "name")
    list_filter = (AttentionFilter, StatusFilter, "type", "priority")
    search_fields = ("=id", "name", "slug", "assigned_to")
    search_help_text = "Number, name, slug or assignee"
    show_full_result_count = False
    list_per_page = 50
    fieldsets: ClassVar = [
        (None, {"fields": FIELDS[:7]}),
        ("Work", {"fields": FIELDS[7:]}),
    ]

    def has_delete_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        """Nobody: a task is cancelled, and its history stays."""
        return False

    def save_model(self, request: HttpRequest, obj: Task, form: Any, change: bool) -> None:
        actor = request.user.get_username()
        if change:
            changes = form.values(form.changed_data)
            if changes:
                services.update_task(task_id=obj.pk, changes=changes, actor=actor)
            return
        filled = {name: value for name, value in form.values(FIELDS).items() if value is not None}
        obj.pk = services.create_task(fields=filled, actor=actor).pk

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        task = self.get_object(request, object_id)
        events = task.events.order_by("-id")[:_EVENTS_SHOWN] if task else []
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "events": events})

    # --- columns
    @admin.display(description="task", ordering="id")
    def task_id(self, task: Task) -> str:
        return task.task_id

    @admin.display(description="status", ordering="status")
    def state(self, task: Task) -> SafeString:
        return format_html('<span class="badge badge-{}">{}</span>', task.status, task.status)

    @admin.display(description="queued (UTC)", ordering="id")
    def queued(self, task: Task) -> str:
        return shown_in_seconds(task.queued_at) or "–"

    # --- actions
    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """What may be done to many at once, and the priorities, made from one list."""
        if not self.has_change_permission(request):
            return {}
        return {name: (self._act, name, label) for name, (label, *_) in _ACTIONS.items()}

    def _act(self, _: Any, request: HttpRequest, chosen: QuerySet[Task]) -> TemplateResponse | None:
        """Ask where it destroys; then do it to each, and say how many it was."""
        name = request.POST.get("action", "")
        label, question, apply = _ACTIONS[name]
        if question and request.POST.get("confirmed") != "yes":
            context = {
                **self.admin_site.each_context(request),
                **{"title": "Are you sure?", "opts": self.opts, "objects": chosen, "question": question},
                **{"action": name, "checkbox": ACTION_CHECKBOX_NAME, "yes": f"Yes, {label.lower()}"},
            }
            return TemplateResponse(request, "admin/tasks/confirm.html", context)
        done = 0
        for task in chosen:
            try:
                apply(task, request.user.get_username())
                done += 1
            except LobwifeError as error:
                self.message_user(request, f"{error}.", messages.ERROR)
        if done:
            self.message_user(request, f"{label}: done for {done}.", messages.SUCCESS)
        return None


def _update(**changes: Any) -> Callable[[Task, str], object]:
    return lambda task, actor: services.update_task(task_id=task.pk, changes=changes, actor=actor)


def _complete(task: Task, actor: str) -> object:
    changes = {"status": Status.COMPLETED, "completed_at": iso_text()}
    return services.update_task(task_id=task.pk, changes=changes, actor=actor)


def _cancel(task: Task, actor: str) -> None:
    services.cancel_task(task_id=task.pk, actor=actor, detail="Task cancelled by an operator")


_REQUEUED = {"status": Status.QUEUED, "assigned_to": None, "assigned_at": None, "completed_at": None}
# Label, the question to ask first or nothing, what is done to each.
_ACTIONS: dict[str, tuple[str, str, Callable[[Task, str], object]]] = {
    "requeue": ("Re-queue", "Re-queue these? Whoever works on them is no longer assigned.", _update(**_REQUEUED)),
    "complete": ("Complete", "Complete these? Their tokens are ended.", _complete),
    "fail": ("Fail", "Mark these as failed? Their tokens are ended.", _update(status=Status.FAILED)),
    "cancel": ("Cancel", "Cancel these? Their tokens are ended.", _cancel),
    **{f"priority_{each}": (f"Set priority {each}", "", _update(priority=each)) for each in PRIORITIES},
}
