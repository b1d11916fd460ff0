"""Actions on many rows at once, with a confirmation where one takes something away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from core.callers import Caller, operator_of
from core.errors import LobwifeError
from core.timestamps import iso_text
from tasks import services
from tasks.admin.forms import PRIORITIES
from tasks.models import Status, Task

Apply = Callable[[Task, Caller], object]
_REFUSALS_LISTED = 3
_CANCEL_DETAIL = "Task cancelled by an operator"


def apply_to_each(
    site: admin.ModelAdmin[Any],
    request: HttpRequest,
    rows: QuerySet[Any],
    *,
    label: str,
    question: str,
    apply: Callable[[Any], object],
    title: str = "Are you sure?",
    yes: str = "",
) -> TemplateResponse | None:
    """Ask the question, if there is one; once confirmed, apply the action to each row and say how it went."""
    if question and request.POST.get("confirmed") != "yes":
        context = {
            **site.admin_site.each_context(request),
            **{"title": title, "opts": site.opts, "objects": rows, "question": question},
            **{"action": request.POST["action"], "checkbox": ACTION_CHECKBOX_NAME},
            "yes": yes or f"Yes, {label.lower()}",
        }
        return TemplateResponse(request, "admin/tasks/confirm.html", context)
    done, refusals = 0, []
    for row in rows:
        try:
            apply(row)
            done += 1
        except LobwifeError as error:
            refusals.append(f"{row}: {error}")
    _sum_up(request, label, done, refusals)
    return None


def _sum_up(request: HttpRequest, label: str, done: int, refusals: list[str]) -> None:
    """Say in one message how an action went: for how many, and why not for the others."""
    if not refusals:
        messages.success(request, f"{label}: done for {done}.")
        return
    listed = "; ".join(refusals[:_REFUSALS_LISTED])
    more = len(refusals) - _REFUSALS_LISTED
    others = f"; and {more} more" if more > 0 else ""
    sentence = f"{label}: done for {done} of {done + len(refusals)}. Not for {len(refusals)}: {listed}{others}."
    messages.add_message(request, messages.WARNING if done else messages.ERROR, sentence)


def act(site: admin.ModelAdmin[Any], request: HttpRequest, tasks: QuerySet[Task]) -> TemplateResponse | None:
    """Apply the action that was chosen in the list to the tasks."""
    label, question, apply = _ACTIONS[request.POST["action"]]
    caller = operator_of(request)
    return apply_to_each(site, request, tasks, label=label, question=question, apply=lambda task: apply(task, caller))


def cancel(site: admin.ModelAdmin[Any], request: HttpRequest, tasks: QuerySet[Task]) -> TemplateResponse | None:
    """Cancel tasks after a confirmation."""
    return apply_to_each(
        site,
        request,
        tasks,
        label="Cancel",
        title="Cancel these tasks?",
        question="They get no more work and no more tokens; their history stays.",
        yes="Yes, cancel them",
        apply=lambda task: cancel_task(task.pk, operator_of(request)),
    )


def cancel_task(number: int, caller: Caller) -> None:
    """Cancel a task as an operator; raises NotFound, Conflict."""
    services.cancel_task(task_id=number, actor=caller.identity, caller=caller, detail=_CANCEL_DETAIL)


def _update(**changes: Any) -> Apply:
    return lambda task, caller: services.update_task(
        task_id=task.pk, changes=changes, actor=caller.identity, caller=caller
    )


def _complete(task: Task, caller: Caller) -> object:
    return _update(status=Status.COMPLETED, completed_at=iso_text())(task, caller)


_REQUEUED = {"status": Status.QUEUED, "assigned_to": None, "assigned_at": None, "completed_at": None}
# Label, the question to ask first or nothing, what is done to each.
_ACTIONS: dict[str, tuple[str, str, Apply]] = {
    "requeue": ("Re-queue", "Re-queue these? Whoever works on them is no longer assigned.", _update(**_REQUEUED)),
    "complete": ("Complete", "Complete these? Their tokens end.", _complete),
    "fail": ("Fail", "Mark these as failed? Their tokens end.", _update(status=Status.FAILED)),
    **{f"priority_{name}": (f"Set priority {name}", "", _update(priority=name)) for name in PRIORITIES},
}
ACTIONS = {
    "cancel": (cancel, "cancel", "Cancel selected tasks"),
    **{name: (act, name, label) for name, (label, _, _) in _ACTIONS.items()},
}
