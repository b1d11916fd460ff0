"""The writes to links and results, each with its event."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from core.callers import Caller
from core.errors import TooLarge
from core.timestamps import utc_now
from tasks.results.models import TaskLink, TaskResult
from tasks.services import log_event

_MOST_LINKS = 100
_DETAIL_CHARACTERS = 500


def add_link(*, task_id: int, kind: str, url: str, actor: str | None, caller: Caller) -> tuple[TaskLink, bool]:
    """Add a link to a task; return it, and whether it is new. One that is there only gets the kind.

    Raises NotFound, Conflict for an agent whose task is over, TooLarge.
    """
    with transaction.atomic():
        link = TaskLink.objects.filter(task_id=task_id, url=url).first()
        if link is not None and link.kind == kind:
            return link, False
        log_event(task_id=task_id, event_type="link_added", detail=f"{kind}: {url}", actor=actor, caller=caller)
        if link is not None:
            TaskLink.objects.filter(pk=link.pk).update(kind=kind)
            link.kind = kind
            return link, False
        if TaskLink.objects.filter(task_id=task_id).count() >= _MOST_LINKS:
            raise TooLarge(f"task T{task_id} has {_MOST_LINKS} links, the most that a task may have")
        new = {"kind": kind, "added_at": utc_now(), "added_by": caller.name}
        return TaskLink.objects.create(task_id=task_id, url=url, **new), True


def write_result(
    *, task_id: int, summary: str, data: dict[str, Any] | None, actor: str | None, caller: Caller
) -> TaskResult:
    """Write the result of a task, in the place of one that it has.

    Raises Invalid, NotFound, Conflict for an agent whose task is over, TooLarge.
    """
    detail = summary if len(summary) <= _DETAIL_CHARACTERS else f"{summary[:_DETAIL_CHARACTERS]}…"
    with transaction.atomic():
        log_event(task_id=task_id, event_type="result_written", detail=detail, actor=actor, caller=caller)
        values = {"summary": summary, "data": data, "written_at": utc_now(), "written_by": caller.name}
        return TaskResult.objects.update_or_create(pk=task_id, defaults=values)[0]
