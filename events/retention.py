"""Retention of the feed: by age and by number. Ids are never used again, so cursors stay what they mean."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction

from core.timestamps import utc_now
from events.models import Event
from events.services import newest_id

_BATCH = 1000


def prune() -> int:
    """Remove events past the limits of the settings, oldest first; return how many. The newest one always stays."""
    newest, removed = newest_id(), 0
    limit = utc_now() - timedelta(days=settings.EVENTS_KEEP_DAYS)
    while True:
        last = 0
        for number, at in Event.objects.order_by("id").values_list("id", "at")[:_BATCH]:
            if number == newest or (at >= limit and number > newest - settings.EVENTS_KEEP):
                break
            last = number
        if not last:
            return removed
        with transaction.atomic():
            count, _ = Event.objects.filter(pk__lte=last).delete()
        removed += count
