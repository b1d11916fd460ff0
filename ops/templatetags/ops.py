"""Template filters for times, durations, sizes and states."""

from __future__ import annotations

from django import template

from core.display import badge, due, duration, size, when
from ops import problems

register = template.Library()
for display_filter in (badge, due, duration, size, when):
    register.filter(display_filter)
register.filter("minutes", lambda minutes: duration(minutes * 60))
register.filter("problem_key", problems.key_of)
