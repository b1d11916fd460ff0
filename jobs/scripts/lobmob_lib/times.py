"""Times as lobwife's REST has them."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def parse(text: object) -> datetime | None:
    """An ISO 8601 time; without an offset it is UTC. None for what is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None


def minutes_since(moment: datetime) -> float:
    return (now() - moment).total_seconds() / 60
