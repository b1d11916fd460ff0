"""Actions on many tasks at once, with a confirmation where one takes something away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from core.errors import LobwifeError
from core.timestamps import iso_text
from tasks import services
from tasks.admin.forms import PRIORITIES
from tasks.models import Status, Task

Apply = Callable[[Task, str], object]


def act(site: admin.ModelAdmin[Any], request: HttpRequest, chosen: QuerySet[Task]) -> TemplateResponse | None:
    """Ask if it needs to be; then do it to each, and say how many it was and which could not be."""
    name = request.POST["action"]
    label, question, apply = _DEEDS[name]
    if question and request.POST.get("confirmed") != "yes":
        context = {
            **site.admin_site.each_context(request),
            **{"title": "Are you sure?", "opts": site.opts, "objects": chosen, "question": question},
            **{"action": name, "checkbox": ACTION_CHECKBOX_NAME, "yes": f"Yes, {label.lower()}"},
        }
        return TemplateResponse(request, "admin/tasks/confirm.html", context)
    done = 0
    for task in chosen:
        try:
            apply(task, request.user.get_username())
            done += 1
        except LobwifeError as error:
            messages.error(request, str(error))
    if done:
        messages.success(request, f"{label}: done for {done}.")
    return None


def _update(**changes: Any) -> Apply:
    return lambda task, actor: services.update_task(task_id=task.pk, changes=changes, actor=actor)


def _complete(task: Task, actor: str) -> object:
    changes = {"status": Status.COMPLETED, "completed_at": iso_text()}
    return services.update_task(task_id=task.pk, changes=changes, actor=actor)


_REQUEUED = {"status": Status.QUEUED, "assigned_to": None, "assigned_at": None, "completed_at": None}
# Label, the question to ask first or nothing, what is done to each.
_DEEDS: dict[str, tuple[str, str, Apply]] = {
    "requeue": ("Re-queue", "Re-queue these? Whoever works on them is no longer assigned.", _update(**_REQUEUED)),
    "complete": ("Complete", "Complete these? Their tokens end.", _complete),
    "fail": ("Fail", "Mark these as failed? Their tokens end.", _update(status=Status.FAILED)),
    **{f"priority_{each}": (f"Set priority {each}", "", _update(priority=each)) for each in PRIORITIES},
}
ACTIONS = {name: (act, name, label) for name, (label, _, _) in _DEEDS.items()}
