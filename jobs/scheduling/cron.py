"""The firings of a schedule: Vixie cron semantics from cronsim, in the job's timezone, returned in UTC."""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

from cron_descriptor import FormatException, MissingFieldException, Options, WrongArgumentException, get_description
from cronsim import CronSim, CronSimError

from core.errors import Invalid

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
COUNT_AT_MOST = 20_000


def check(expression: str, timezone: str) -> None:
    """Raises Invalid, with the reason, for a schedule that can't fire or a timezone that isn't one."""
    if first_after(expression, timezone, datetime.now(UTC)) is None:
        raise Invalid(f"the schedule {expression!r} never fires")


def check_timezone(timezone: str) -> None:
    """Raises Invalid for a timezone that isn't one."""
    _zone(timezone)


def firings_after(expression: str, timezone: str, after: datetime, count: int) -> list[datetime]:
    """Return the next firings, strictly later than `after`; fewer when there are no more. Raises Invalid."""
    return list(islice(_simulate(expression, timezone, after), count))


@functools.lru_cache(maxsize=256)  # a page that refreshes every few seconds asks for the same minute
def firings_between(expression: str, timezone: str, after: datetime, until: datetime) -> tuple[datetime, ...]:
    """Return the firings in (after, until], oldest first. Raises Invalid."""
    return tuple(takewhile(lambda firing: firing <= until, _simulate(expression, timezone, after)))


def first_after(expression: str, timezone: str, after: datetime) -> datetime | None:
    """Return the next firing, strictly later than `after`; None when there is none. Raises Invalid."""
    return next(_simulate(expression, timezone, after), None)


@functools.lru_cache(maxsize=256)  # jobs that share a schedule share their misses
def count_between(expression: str, timezone: str, after: datetime, until: datetime) -> int:
    """Count the firings in (after, until]; counts no further than COUNT_AT_MOST."""
    count = 0
    for firing in islice(_simulate(expression, timezone, after), COUNT_AT_MOST):
        if firing > until:
            break
        count += 1
    return count


def last_between(expression: str, timezone: str, after: datetime, until: datetime, count: int) -> list[datetime]:
    """Return the latest firings in (after, until], oldest first, at most `count`."""
    # Found forwards, from ever further back: within the hours of a DST change cronsim's way backwards is another one.
    span = timedelta(hours=1)
    while True:
        begin = max(after, until - span)
        firings = list(takewhile(lambda firing: firing <= until, _simulate(expression, timezone, begin)))
        if len(firings) >= count or begin == after:
            return firings[-count:]
        span *= 4


@functools.lru_cache(maxsize=512)  # cron_descriptor reads its translations from the disk each time
def describe(expression: str) -> str:
    """Return the schedule in words: `Every 5 minutes`; the expression itself where there are none. Raises Invalid."""
    fields = _fields(expression)
    options = Options()
    options.use_24hour_time_format = True
    try:
        return str(get_description(fields, options))
    except (FormatException, MissingFieldException, WrongArgumentException, ValueError, IndexError):
        return fields


def describe_safely(expression: str) -> str:
    """Return the schedule in words, or as it stands when it is not one."""
    try:
        return describe(expression)
    except Invalid:
        return expression


def _simulate(expression: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Firings strictly later than `after`, each once."""
    fields, zone = _fields(expression), _zone(timezone)
    last = after
    try:
        for firing in CronSim(fields, after.astimezone(zone)):
            moment = firing.astimezone(UTC)
            # Around a DST change cronsim can name a moment of the repeated hour that is over, or one moment twice.
            if moment > last:
                last = moment
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
