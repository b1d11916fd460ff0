"""Where the bars of charts are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ops.charts import day_columns, run_strip, timeline


def test_the_newest_run_is_at_the_right_and_the_longest_fills_the_strip() -> None:
    strip = run_strip([("success", 1.0, "a", "/1"), ("failed", 4.0, "b", "/2"), ("queued", None, "c", "/3")], most=5)
    assert [bar.title for bar in strip.bars] == ["a", "b", "c"]
    assert strip.bars[-1].x + strip.bars[-1].width == strip.width
    assert strip.bars[1].height == strip.height
    assert strip.bars[0].height < strip.bars[1].height
    assert 0 < strip.bars[2].height < strip.bars[0].height
    assert {bar.y + bar.height for bar in strip.bars} == {strip.height}
    assert strip.text == "the last 3 runs, 1 of them failed"


def test_a_job_without_runs_has_an_empty_strip() -> None:
    strip = run_strip([])
    assert (list(strip.bars), strip.text) == ([], "no run yet")


def test_each_day_has_a_bar_of_each_kind_below_the_highest() -> None:
    chart = day_columns([("Mon", {"created": 2}), ("Tue", {"created": 1, "completed": 4})], ["created", "completed"])
    assert [bar.height / chart.height for bar in chart.bars] == [0.5, 0, 0.25, 1]
    assert [bar.x for bar in chart.bars] == sorted(bar.x for bar in chart.bars)
    assert [label for _, label in chart.labels] == ["Mon", "Tue"]
    assert chart.text == "2 days: 3 created, 4 completed"


def test_days_without_anything_are_flat() -> None:
    assert [bar.height for bar in day_columns([("Mon", {})], ["created"]).bars] == [0]


@pytest.mark.parametrize(("minutes", "percent"), [(0, 0.0), (15, 25.0), (60, 100.0)])
def test_a_timeline_is_in_percent(minutes: int, percent: float) -> None:
    start = datetime(2026, 2, 16, 10, tzinfo=UTC)
    assert timeline([start + timedelta(minutes=minutes)], start, start + timedelta(hours=1)) == [percent]
