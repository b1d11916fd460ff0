"""What every page shows: is the daemon there, are starts paused, how many problems and questions are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.core.cache import cache
from django.db import connection
from django.db.utils import DatabaseError

from core.timestamps import utc_now
from events.services import newest_id
from ops import problems
from ops.checks import Finding, Severity, bad, fleet, state, worst
from tasks.questions.queries import open_count

_COUNT_SECONDS = 60
_COUNT_FRESH_SECONDS = 10  # where something happened


@dataclass(frozen=True)
class Count:
    """The problems that nobody has acknowledged, and how bad the worst of them is."""

    number: int = 0
    worst: Severity = Severity.GOOD


@dataclass(frozen=True)
class Frame:
    """The site-wide banner, and the count in the tab's title."""

    findings: list[Finding] = field(default_factory=list)
    paused_at: datetime | None = None
    paused_by: str = ""
    count: Count = field(default_factory=Count)
    questions: int = 0  # that wait for an answer


def load(*, fresh: bool = False) -> Frame:
    """Read the daemon's row, and how many problems there are.

    They are counted once a minute, for what time alone brings; for who asks for a fresh count every ten seconds, where
    something happened.
    """
    try:
        daemon = state.daemon()
        findings = [
            each for each in fleet.daemon(daemon) if each.severity is not Severity.GOOD and each.key != problems.PAUSED
        ]
        return Frame(findings, daemon.paused_at, daemon.paused_by, _count(fresh), open_count())
    except DatabaseError as error:
        return Frame([bad("database", f"The database can't be read: {error}")], count=Count(1, Severity.BAD))


def remember(findings: Sequence[Finding], newest_event: int = 0) -> None:
    """Keep the count of problems for the next pages; it holds for longer where the newest event before it is named."""
    cache.set(_key(), (utc_now(), newest_event, Count(len(findings), worst(findings))), _COUNT_SECONDS)


def _count(fresh: bool) -> Count:
    stored: tuple[datetime, int, Count] | None = cache.get(_key())
    if stored is None or (fresh and (utc_now() - stored[0]).total_seconds() > _COUNT_FRESH_SECONDS):
        newest = newest_id()
        if stored is None or stored[1] != newest:
            remember(problems.unacknowledged(utc_now()), newest)
            stored = cache.get(_key())
    return stored[2] if stored else Count()


def _key() -> str:
    return f"ops.problems.{connection.settings_dict['NAME']}"
