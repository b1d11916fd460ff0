"""Changes by operators: what Django's log of changes gets, the feed of events gets too."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from core.display import StrictAdmin
from events import services as feed

_ACTIONS = {ADDITION: "added", CHANGE: "changed", DELETION: "deleted"}


def append_entry(entry: LogEntry, *, actor: str) -> None:
    """Append an entry of Django's log to the feed, within the transaction of the change."""
    kind = entry.content_type
    data = {
        "model": f"{kind.app_label}.{kind.model}" if kind else None,
        "object_id": entry.object_id,
        "object": entry.object_repr,
        "action": _ACTIONS[entry.action_flag],
        "message": entry.get_change_message(),
    }
    feed.append("admin.changed", entry.object_repr, data, actor=actor or None)


class RecordedAdmin(StrictAdmin):
    """An admin whose changes the feed tells of."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        return self._recorded(request, super().log_addition, obj, message)[0]

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        return self._recorded(request, super().log_change, obj, message)[0]

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[LogEntry]:
        return self._recorded(request, super().log_deletions, queryset)

    def _recorded(self, request: HttpRequest, write: Any, *arguments: Any) -> list[LogEntry]:
        with transaction.atomic():
            written = write(request, *arguments)
            entries = [written] if isinstance(written, LogEntry) else list(written)
            for entry in entries:
                append_entry(entry, actor=request.user.get_username())
        return entries
