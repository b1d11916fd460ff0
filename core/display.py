"""Display on pages: durations, times, sizes, states, as filters of templates too; rows that only the service writes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from django import template
from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString

from core.timestamps import parse, utc_now

RowT = TypeVar("RowT")
register = template.Library()  # `{% load display %}`
_STEPS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_DAYS_WITH_HOURS = 10
_SIZES = ("bytes", "kB", "MB", "GB")
_LONGEST_SEARCH = 200  # characters


@register.filter
def duration(seconds: float | None) -> str:
    """Format seconds: `85 ms`, `12 s`, `3 min 5 s`, `2 d 4 h`, `90 d`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for (unit, length), (smaller, part) in itertools.pairwise(_STEPS):
        if round(seconds) >= length:
            whole, rest = divmod(round(seconds), length)
            beside = rest // part if unit != "d" or whole < _DAYS_WITH_HOURS else 0
            return f"{whole} {unit} {beside} {smaller}" if beside else f"{whole} {unit}"
    return f"{round(seconds)} s"


@register.filter
def minutes(number: float) -> str:
    """Format minutes as `duration` formats seconds."""
    return duration(number * 60)


@register.filter
def when(moment: datetime | str | None) -> SafeString | str:
    """Format a time relative to now, with the exact UTC on hover; text that is not a time is returned unchanged."""
    time = parse(moment) if isinstance(moment, str) else moment
    if time is None:
        return moment if isinstance(moment, str) and moment else "–"
    exact = time.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        exact.isoformat(),
        exact.strftime("%Y-%m-%d %H:%M:%S"),
        _relative((utc_now() - exact).total_seconds()),
    )


@register.filter
def exact(moment: datetime | str | None) -> SafeString | str:
    """Format a time in UTC, and beside it relative to now; text that is not a time is returned unchanged."""
    time = parse(moment) if isinstance(moment, str) else moment
    if time is None:
        return when(moment)
    return format_html('{} UTC <span class="quiet">{}</span>', f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}", when(time))


def by_day(listed: Iterable[RowT], moment: Callable[[RowT], datetime]) -> list[tuple[date, list[RowT]]]:
    """Part what is listed by the day of its moment, in the order it has."""
    return [(day, list(rows)) for day, rows in itertools.groupby(listed, key=lambda row: moment(row).date())]


def _relative(age: float) -> str:
    """Format an age in seconds: `3 min ago`, `in 2 h`; without seconds beside minutes, which would soon be wrong."""
    distance = abs(age)
    if distance < 1:
        return "now"
    text = duration(distance if distance < 60 else distance // 60 * 60)
    return f"{text} ago" if age > 0 else f"in {text}"


@register.filter
def due(moment: datetime | None) -> SafeString | str:
    """Format the time of something planned: `in 3 min`, or `due 8 s ago` when it is late."""
    is_late = moment is not None and (utc_now() - moment).total_seconds() >= 1
    return format_html("due {}", when(moment)) if is_late else when(moment)


@register.filter
def size(count: float | None) -> str:
    """Format a number of bytes: `512 bytes`, `1.5 kB`."""
    if count is None:
        return "–"
    for unit in _SIZES:
        if count < 1000 or unit == _SIZES[-1]:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return ""


@register.filter
def count(number: int) -> str:
    """Return a number with commas between its thousands."""
    return f"{number:,}"


@register.filter
def badge(state: str | None) -> SafeString:
    """Return a state as a coloured word; nothing is said by the colour alone."""
    word = state or "never ran"
    return format_html('<span class="badge badge-{}">{}</span>', word.replace(" ", "-"), word)


def previous_page(request: HttpRequest, default: str) -> str:
    """Return the page somebody came from, if it is one of ours."""
    url = request.META.get("HTTP_REFERER")
    ours = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return str(url) if ours else default


class StrictAdmin(admin.ModelAdmin[Any]):
    """An admin whose list takes the parameters of its filters, their `more_parameters` too, and no other lookups.

    Django lets every lookup on the model's own columns pass: also on those that pages mask, and also `regex`, which
    SQLite leaves to Python. And it takes seconds to make a query of thousands of words, while nobody else is answered.
    """

    live_events = ""  # those after which the list is another: `run.*,admin.changed`; without any it is asked for

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return any(lookup in _parameters(item) for item in self.get_list_filter(request))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return super().get_search_results(request, queryset, search_term[:_LONGEST_SEARCH])

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        try:
            return super().get_changelist_instance(request)
        except (DisallowedModelAdminLookup, OverflowError):  # the latter for a number that no column holds
            if ERROR_FLAG in request.GET:
                raise DisallowedModelAdminLookup("the address has a filter that the list doesn't know") from None
        messages.warning(request, "The address had a filter that this list doesn't know: it shows everything.")
        raise IncorrectLookupParameters  # Django redirects to the whole list


def _parameters(item: Any) -> set[str]:
    """Return the parameters of an item of `list_filter`."""
    if isinstance(item, type):  # a SimpleListFilter
        return {item.parameter_name, *getattr(item, "more_parameters", ())}  # type: ignore[attr-defined]
    field = item[0] if isinstance(item, list | tuple) else item
    return {field, *(f"{field}__{lookup}" for lookup in ("exact", "isnull", "gte", "lt", "id__exact"))}


class ReadOnlyAdmin(StrictAdmin):
    """An admin of rows that only the service writes: nothing can be added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
