"""How pages say times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core import display

NOW = datetime(2026, 2, 16, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "as_moment", "as_due"),
    [
        (0, "now", "now"),
        (-8, "8 s ago", "due 8 s ago"),
        (90, "in 1 min", "in 1 min"),
        (-7300, "2 h 1 min ago", "due 2 h 1 min ago"),
        (200_000, "in 2 d 7 h", "in 2 d 7 h"),
        (-2 * 86_400 - 120, "2 d ago", "due 2 d ago"),
        (-285 * 86_400 - 50_000, "285 d ago", "due 285 d ago"),
    ],
)
def test_moments_are_told_from_now(monkeypatch: pytest.MonkeyPatch, seconds: int, as_moment: str, as_due: str) -> None:
    monkeypatch.setattr(display, "utc_now", lambda: NOW)
    moment = NOW + timedelta(seconds=seconds)
    words = f">{as_moment}</time>"
    assert str(display.when(moment)).endswith(words)
    assert str(display.due(moment)).endswith(words)
    assert str(display.due(moment)).startswith("due <time") == as_due.startswith("due")
    assert moment.strftime("%Y-%m-%d %H:%M:%S UTC") in str(display.when(moment))


def test_no_moment_is_a_dash_and_what_is_none_is_shown_as_it_is() -> None:
    assert display.when(None) == display.due(None) == "–"
    assert display.when("last tuesday") == "last tuesday"
