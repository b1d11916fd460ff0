"""Template filters about problems and rows."""

from __future__ import annotations

from django import template
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

from ops import navigation, problems

register = template.Library()
register.filter("problem_key", problems.key_of)
register.filter("plural", navigation.plural)


@register.filter
def has_history(row: Model | None) -> bool:
    """Return whether somebody changed a row in the admin: only then its history says something."""
    if row is None or row.pk is None:
        return False
    return LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(row), object_id=row.pk).exists()
