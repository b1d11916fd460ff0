"""When jobs fire: Vixie's rules, timezones, both DST changes, in both directions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.errors import Invalid
from jobs.scheduling import cron

BERLIN = "Europe/Berlin"
SPRING = datetime(2026, 3, 28, 20, 0, tzinfo=UTC)  # on the 29th, 02:00 to 03:00 do not exist
AUTUMN = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)  # on the 25th, 02:00 to 03:00 come twice
EXPRESSIONS = ["30 2 * * *", "59 2 * * *", "0 3 * * *", "15 1-3 * * *", "0,30 2,3 * * *", "*/30 * * * *", "*/7 2 * * *"]
EXPRESSIONS += ["0 */2 * * *", "0 2 * * *", "* * * * *"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def firings(expression: str, after: str, count: int, timezone: str = "UTC") -> list[str]:
    found = cron.firings_after(expression, timezone, at(after), count)
    return [moment.strftime("%m-%d %H:%M") for moment in found]


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/5 * * * *", "2026-02-16 12:00", ["02-16 12:05", "02-16 12:10"]),
        ("0 0 * * 7", "2026-02-16 12:00", ["02-22 00:00", "03-01 00:00"]),
        ("0 0 * * 0", "2026-02-16 12:00", ["02-22 00:00", "03-01 00:00"]),
        ("0 9 * * MON-FRI", "2026-02-20 12:00", ["02-23 09:00", "02-24 09:00"]),
        ("0 0 29 2 *", "2027-01-01 00:00", ["02-29 00:00"]),
        ("@hourly", "2026-02-16 12:00", ["02-16 13:00", "02-16 14:00"]),
        ("@Daily", "2026-02-16 12:00", ["02-17 00:00", "02-18 00:00"]),
        ("@weekly", "2026-02-16 12:00", ["02-22 00:00"]),
        ("@monthly", "2026-02-16 12:00", ["03-01 00:00"]),
        ("@yearly", "2026-02-16 12:00", ["01-01 00:00"]),
    ],
)
def test_firings_are_vixies(expression: str, after: str, expected: list[str]) -> None:
    assert firings(expression, after, len(expected)) == expected


def test_day_of_month_or_day_of_week_when_both_are_given() -> None:
    assert firings("0 0 13 * 5", "2026-02-01 00:00", 4) == ["02-06 00:00", "02-13 00:00", "02-20 00:00", "02-27 00:00"]
    assert firings("0 0 15 * 5", "2026-02-10 00:00", 2) == ["02-13 00:00", "02-15 00:00"]


def test_day_of_month_and_day_of_week_when_one_begins_with_a_star() -> None:
    assert firings("0 0 */2 * 1", "2026-03-01 00:00", 2) == ["03-09 00:00", "03-23 00:00"]


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "a * * * *", "@reboot", "@", "*/0 * * * *", "0 0 31 2 *"]
    + ["5-1 * * * *", "٣ * * * *", "* * * * 8", "-1 * * * *", "1,, * * * *", "0 0 30 2 *"],
)
def test_what_is_no_schedule_is_refused_with_a_reason(expression: str) -> None:
    with pytest.raises(Invalid) as refusal:
        cron.check(expression, "UTC")
    assert repr(expression) in str(refusal.value)


@pytest.mark.parametrize("timezone", ["", "Mars/Base", "../../etc/passwd", "/etc/localtime", "UTC\0", "x" * 5000])
def test_what_is_no_timezone_is_refused(timezone: str) -> None:
    with pytest.raises(Invalid, match="is not a timezone"):
        cron.check("* * * * *", timezone)


@pytest.mark.parametrize(
    "expression", ["*/5 * * * *", "@daily", "0 0 LW * *", "0 0 * * 1#2", "0 0 * * 5L", "1-59/2 * * * *"]
)
def test_every_schedule_has_words(expression: str) -> None:
    assert cron.describe(expression)


def test_a_daily_firing_in_the_hour_that_spring_skips_comes_when_the_hour_is_over() -> None:
    assert firings("30 2 * * *", "2026-03-28 20:00", 2, BERLIN) == ["03-29 01:00", "03-30 00:30"]


def test_a_daily_firing_in_the_hour_that_autumn_repeats_comes_once() -> None:
    assert firings("30 2 * * *", "2026-10-24 20:00", 2, BERLIN) == ["10-25 00:30", "10-26 01:30"]


def test_firings_more_often_than_hourly_go_on_through_both_changes() -> None:
    for start in (SPRING, AUTUMN):
        found = cron.firings_after("*/30 * * * *", BERLIN, start, 24)
        assert {later - earlier for earlier, later in zip(found, found[1:], strict=False)} == {timedelta(minutes=30)}


@pytest.mark.parametrize("timezone", [BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("start", [SPRING, AUTUMN, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 4, 4, tzinfo=UTC)])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_forwards_backwards_and_one_by_one_name_the_same_firings(
    expression: str, start: datetime, timezone: str
) -> None:
    end = start + timedelta(hours=18)
    following = cron.firings_after(expression, timezone, start, 1200 if expression == "* * * * *" else 80)
    assert following[-1] > end
    onwards = [each for each in following if each <= end]
    assert onwards == sorted(set(onwards))
    assert cron.last_between(expression, timezone, start, end, 2000) == onwards
    assert cron.count_between(expression, timezone, start, end) == len(onwards)
    moment, stepwise = start, []
    while (moment := cron.first_after(expression, timezone, moment)) <= end:
        stepwise.append(moment)
    assert stepwise == onwards
    for minutes in range(0, 18 * 60, 47):
        seen = start + timedelta(minutes=minutes, seconds=7)
        expected = [each for each in onwards if each <= seen][-2:]
        assert cron.last_between(expression, timezone, start, seen, 2) == expected


def test_the_end_of_a_span_counts_and_its_beginning_does_not() -> None:
    start, end = at("2026-02-16 12:00"), at("2026-02-16 12:10")
    assert cron.count_between("*/5 * * * *", "UTC", start, end) == 2
    assert [each.minute for each in cron.last_between("*/5 * * * *", "UTC", start, end, 9)] == [5, 10]
