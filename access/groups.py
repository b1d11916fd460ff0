"""The two groups of people: what they may do needs no list, so that a new model is covered from its first day."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission
from django.db.models import QuerySet

OPERATORS = "Operators"  # everything
VIEWERS = "Viewers"  # look only


class RoleBackend(ModelBackend):
    """Django's own, in which Operators have every permission and Viewers those to view."""

    def _get_group_permissions(self, user_obj: Any) -> QuerySet[Permission]:
        names = set(user_obj.groups.values_list("name", flat=True))
        if OPERATORS in names:
            return Permission.objects.all()
        granted: QuerySet[Permission] = super()._get_group_permissions(user_obj)  # type: ignore[misc]
        if VIEWERS in names:
            return (granted | Permission.objects.filter(codename__startswith="view_")).distinct()
        return granted
