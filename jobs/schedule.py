"""When a job fires: Vixie cron semantics from cronsim, in the job's timezone, answered in UTC."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from cron_descriptor import FormatException, get_description
from cronsim import CronSim, CronSimError

from lobwife.base.errors import Invalid

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
COUNT_AT_MOST = 1000


def check(expression: str, timezone: str) -> None:
    """Raises Invalid, with the reason, for a schedule that can't fire or a timezone that isn't one."""
    if first_after(expression, timezone, datetime.now(UTC)) is None:
        raise Invalid(f"the schedule {expression!r} never fires")


def check_timezone(timezone: str) -> None:
    """Raises Invalid for a timezone that isn't one."""
    _zone(timezone)


def firings_after(expression: str, timezone: str, after: datetime, count: int) -> list[datetime]:
    """The next firings, strictly later than `after`; fewer when there are no more. Raises Invalid."""
    return list(islice(_simulate(expression, timezone, after), count))


def first_after(expression: str, timezone: str, after: datetime) -> datetime | None:
    """The next firing, strictly later than `after`; None when there is none. Raises Invalid."""
    return next(_simulate(expression, timezone, after), None)


def count_between(expression: str, timezone: str, after: datetime, until: datetime) -> int:
    """How many firings lie in (after, until]; counts no further than COUNT_AT_MOST."""
    count = 0
    for firing in islice(_simulate(expression, timezone, after), COUNT_AT_MOST):
        if firing > until:
            break
        count += 1
    return count


def last_between(expression: str, timezone: str, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The latest firings in (after, until], oldest first, at most `count`."""
    firings: list[datetime] = []
    # cronsim is strict at either end: a microsecond more makes `until` itself count.
    for firing in _simulate(expression, timezone, until + timedelta(microseconds=1), reverse=True):
        if firing <= after or len(firings) == count:
            break
        firings.append(firing)
    return firings[::-1]


def describe(expression: str) -> str:
    """The schedule in words: `Every 5 minutes`."""
    return str(get_description(_fields(expression)))


def describe_safely(expression: str) -> str:
    """The schedule in words, or as it stands when it is not one."""
    try:
        return describe(expression)
    except (Invalid, FormatException):
        return expression


def _simulate(expression: str, timezone: str, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    fields, zone = _fields(expression), _zone(timezone)
    try:
        for firing in CronSim(fields, start.astimezone(zone), reverse=reverse):
            moment = firing.astimezone(UTC)
            # Within the hour that a DST change repeats, cronsim can name its first pass, which is over.
            if (moment < start) if reverse else (moment > start):
                yield moment
    except CronSimError as error:
        raise Invalid(f"{expression!r} is not a schedule: {str(error).lower()}") from None


def _fields(expression: str) -> str:
    expression = expression.strip()
    named = NAMES.get(expression.lower())
    if named:
        return named
    if expression.startswith("@"):
        raise Invalid(f"{expression!r} is not a schedule: use five cron fields or one of {', '.join(NAMES)}")
    if len(expression.split()) != 5:
        raise Invalid(f"{expression!r} is not a schedule: it needs five fields (minute hour day month weekday)")
    return expression


def _zone(timezone: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(f"{timezone[:100]!r} is not a timezone: use a name such as UTC or Europe/Berlin") from None
