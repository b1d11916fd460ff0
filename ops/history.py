"""Counts over histories that only grow: read from the first row of their time on, not from the beginning."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.core.cache import cache
from django.db import connection, models
from django.db.models import Count

from broker.models import Action, TokenAudit
from core.timestamps import seconds_text
from tasks.models import TaskEvent

KINDS = ("created", "completed", "failed")
_DAY_SECONDS = 86_400
_FRESH_SECONDS = 20
# A task counts on the day on which it got there: events after that have the same status, and don't count.
_DAYS = """
    SELECT substr(created_at, 1, 10), 'created', count(*) FROM task_events
    WHERE id >= %s AND created_at >= %s AND event_type = 'created' GROUP BY 1
    UNION ALL
    SELECT substr(event.created_at, 1, 10), event.status, count(DISTINCT event.task_id) FROM task_events AS event
    WHERE event.id >= %s AND event.created_at >= %s AND event.status IN ('completed', 'failed') AND event.status <>
        coalesce((SELECT earlier.status FROM task_events AS earlier WHERE earlier.task_id = event.task_id
                  AND earlier.id < event.id ORDER BY earlier.id DESC LIMIT 1), '')
    GROUP BY 1, 2
"""


def days(now: datetime, count: int) -> list[tuple[str, dict[str, int]]]:
    """For each of the last days, the newest last, how many tasks were created, completed and failed."""
    first = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=count - 1)
    key = f"ops.days.{connection.settings_dict['NAME']}.{first:%Y%m%d}"
    found: list[tuple[str, dict[str, int]]] | None = cache.get(key)
    if found is None:
        found = _count_days(first, count)
        cache.set(key, found, _FRESH_SECONDS)
    return found


def token_outcomes(now: datetime) -> dict[str, int]:
    """Count the requests for tokens since midnight by their outcome."""
    since = now.strftime("%Y-%m-%d")
    rows = TokenAudit.objects.filter(pk__gte=_first_id(TokenAudit, since), created_at__gte=since)
    asked = rows.filter(action__in=(Action.TOKEN, Action.SERVICE_TOKEN, Action.TOKEN_REFUSED)).order_by()
    return {outcome or "": count for outcome, count in asked.values_list("outcome").annotate(count=Count("pk"))}


def _count_days(first: datetime, count: int) -> list[tuple[str, dict[str, int]]]:
    names = [(first + timedelta(days=number)).strftime("%Y-%m-%d") for number in range(count)]
    counts = {name: dict.fromkeys(KINDS, 0) for name in names}
    since = seconds_text(first)
    begin = _first_id(TaskEvent, since)
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, [begin, since, begin, since])
        for day, kind, number in cursor.fetchall():
            if day in counts:
                counts[day][kind] += number
    return [(day[5:], each) for day, each in counts.items()]


def _first_id(model: type[models.Model], since: str) -> int:
    """The first row of a day's time: looked for once a day, since ids and times grow together."""
    key = f"ops.first.{connection.settings_dict['NAME']}.{model.__name__}.{since[:10]}"
    known = cache.get(key)
    if known is None:
        rows = model._default_manager.filter(created_at__gte=since).order_by("pk").values_list("pk", flat=True)
        known = rows.first()
        if known is None:  # nothing yet: look again next time, from the newest row on
            return int(model._default_manager.order_by("-pk").values_list("pk", flat=True).first() or 0)
        cache.set(key, known, _DAY_SECONDS)
    return int(known)
