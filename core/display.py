"""How the pages say times, durations, sizes and states."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.timestamps import parse, utc_now

_STEPS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SIZES = ("bytes", "kB", "MB", "GB")


def span(seconds: float | None) -> str:
    """A duration as people say it: `85 ms`, `12 s`, `3 min 5 s`, `2 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    rest = round(seconds)
    parts = []
    for unit, length in _STEPS:
        if rest >= length:
            parts.append(f"{rest // length} {unit}")
            rest %= length
    return " ".join(parts[:2]) or "0 s"


def _about(seconds: float) -> str:
    """A distance in time, without seconds beside minutes: a page is read longer than they are right."""
    return span(seconds) if seconds < 60 else span(seconds // 60 * 60)


def when(moment: datetime | str | None) -> SafeString | str:
    """A moment relative to now, with the exact UTC on hover; text that can't be read is shown as it is."""
    known = parse(moment) if isinstance(moment, str) else moment
    if known is None:
        return moment if isinstance(moment, str) and moment else "–"
    seconds = (utc_now() - known).total_seconds()
    words = "now" if abs(seconds) < 1 else f"{_about(seconds)} ago" if seconds > 0 else f"in {_about(-seconds)}"
    exact = known.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>', exact.isoformat(), exact.strftime("%Y-%m-%d %H:%M:%S"), words
    )


def due(moment: datetime | None) -> SafeString | str:
    """When something is to happen; `due 8 s ago` when it should have."""
    late = moment is not None and (utc_now() - moment).total_seconds() >= 1
    return format_html("due {}", when(moment)) if late else when(moment)


def size(count: float | None) -> str:
    """Bytes as people say them."""
    if count is None:
        return "–"
    for unit in _SIZES:
        if count < 1000 or unit == _SIZES[-1]:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def badge(state: str | None) -> SafeString:
    """A state as a coloured word; the colour adds nothing that the word does not say."""
    word = state or "never ran"
    return format_html('<span class="badge badge-{}">{}</span>', word.replace(" ", "-"), word)
