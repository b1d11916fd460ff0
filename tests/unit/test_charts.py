"""Where the bars of charts are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ops.charts import PastRun, Series, blocks, plot, spark, ticks

NOW = datetime(2026, 2, 16, 12, tzinfo=UTC)
PAST, AHEAD = timedelta(hours=12), timedelta(hours=6)


def run(pk: int, state: str, minutes_ago: float, minutes: float = 1) -> PastRun:
    begin = NOW - timedelta(minutes=minutes_ago)
    return PastRun(pk, state, begin, begin + timedelta(minutes=minutes))


def test_successes_that_follow_closely_are_one_block_and_a_failure_lies_over_it() -> None:
    runs = [run(1, "success", 60), run(2, "failed", 50), run(3, "success", 40), run(4, "success", 600)]
    drawn = blocks(runs, NOW, PAST, AHEAD, "/runs/?job=a")
    assert [block.state for block in drawn] == ["success", "success", "failed"]
    assert [block.title.partition(":")[0] for block in drawn] == ["02", "2 runs", "11"]
    assert drawn[1].url.startswith("/runs/?job=a&since=2026-02-16+10%3A59%3A58&until=")
    assert drawn[2].url == "/admin/jobs/jobrun/2/change/"
    assert all(block.width >= 4 for block in drawn)
    assert drawn[1].x == round(1000 * 11 / 18)


@pytest.mark.parametrize(("count", "has_band"), [(3, False), (200, True)])
def test_firings_too_many_to_tell_apart_are_a_band(count: int, has_band: bool) -> None:
    drawn = ticks([NOW + timedelta(minutes=place) for place in range(count)], NOW, PAST, AHEAD)
    assert drawn.count == count
    assert bool(drawn.band) is has_band
    assert drawn.path.count("M") == (0 if has_band else count)


def test_a_sparkline_goes_from_the_bottom_to_the_top() -> None:
    drawn = spark([0, 2, 4], "tasks")
    assert drawn.line == "M0 29L50 15L100 1"
    assert drawn.text == "tasks in the last 24 hours: at most 4, now 4"


def test_a_plot_leaves_out_steps_without_a_value_and_says_all_in_words() -> None:
    moments = [NOW + timedelta(hours=place) for place in range(4)]
    drawn = plot("Duration", moments, [Series("p50", [None, 2.0, None, 8.0])], write=lambda value: f"{value:.0f} s")
    assert drawn.lines[0].path == "M225.0 120.0M525.0 0.0"
    assert len(drawn.lines[0].points) == 2
    assert [label for _, label in drawn.scale] == ["8 s", "4 s", "0"]
    assert drawn.steps[1].title == "Mon 16 Feb 13:00: p50 2 s"
    assert [list(step.values) for step in drawn.steps] == [["–"], ["2 s"], ["–"], ["8 s"]]
    assert plot("Nothing", moments, [Series("a", [0, None, 0, 0])]).is_empty


def test_bars_are_stacked_below_the_highest() -> None:
    drawn = plot("Runs", [NOW], [Series("ok", [3], "good"), Series("failed", [1], "bad")], as_bars=True)
    assert [(bar.kind, bar.y, bar.height) for bar in drawn.bars] == [("good", 40, 120), ("bad", 0, 40)]
