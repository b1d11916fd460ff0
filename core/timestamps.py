"""Timestamps as the six old tables hold them: text, UTC, in two forms (contract, "Timestamps")."""

import re
from datetime import UTC, datetime

from django.db.models import Func, TextField
from django.utils.functional import cached_property

SECONDS = "%Y-%m-%d %H:%M:%S"
_SECONDS_FORM = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_SEPARATOR = re.compile(r"[\dW-]+([Tt ]\d.*)?", re.ASCII)


class UtcNow(Func):
    """The database's default for a timestamp, `datetime('now')` on SQLite: UTC, whole seconds, no offset."""

    function = "datetime"
    template = "datetime('now')"

    @cached_property
    def output_field(self) -> TextField[str, str]:
        return TextField()

    def as_postgresql(self, compiler, connection, **context):  # type: ignore[no-untyped-def]
        template = "to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
        return self.as_sql(compiler, connection, template=template, **context)


def utc_now() -> datetime:
    return datetime.now(UTC)


def seconds_text(moment: datetime | None = None) -> str:
    """Format as `2026-02-16 12:00:00`, in UTC; now, if no moment is given."""
    return (moment or utc_now()).astimezone(UTC).strftime(SECONDS)


def iso_text(moment: datetime | None = None) -> str:
    """Format as `2026-02-16T12:00:00.123456+00:00`, in UTC; now, if no moment is given."""
    return (moment or utc_now()).astimezone(UTC).isoformat(timespec="microseconds")


def parse(text: object) -> datetime | None:
    """Parse a timestamp in any form found in real files; UTC if it has no offset. None if it can't be parsed."""
    if not isinstance(text, str) or not _SEPARATOR.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def whole_seconds(text: object) -> str | None:
    """Return a stored timestamp as `2026-02-16 12:00:00`, the form of responses; None if it can't be parsed."""
    if isinstance(text, str) and _SECONDS_FORM.fullmatch(text):
        return text
    moment = parse(text)
    return seconds_text(moment) if moment else None
