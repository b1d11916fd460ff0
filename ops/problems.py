"""The problems of the overview: worst first, each with its age, and those apart that somebody has acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import transaction

from core.timestamps import utc_now
from jobs.alerts import kinds
from jobs.models import Node
from ops import queries
from ops.checks import Finding, Severity, fleet, state
from ops.models import Acknowledgement

PAUSED = "paused"  # the banner says it: whoever paused knows
_WITHOUT_A_BEGINNING = timedelta(days=1)
_KEPT = timedelta(days=30)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Problems:
    """Findings that something is to be done about, and those that wait: acknowledged or snoozed."""

    open: list[Finding]
    waiting: list[tuple[Finding, Acknowledgement]]


@dataclass(frozen=True)
class Facts:
    """What the checks judge and the overview shows as well, each read once."""

    daemon: state.DaemonState = field(default_factory=state.daemon)
    nodes: list[Node] = field(default_factory=state.nodes)
    github: state.GitHub = field(default_factory=state.github)
    vault: state.Vault = field(default_factory=state.vault)
    copies: state.Copies = field(default_factory=state.copies)
    limits: fleet.Limits = field(default_factory=kinds.thresholds)


def findings(now: datetime, facts: Facts | None = None) -> list[Finding]:
    """Return all that is not well, the worst first and then the newest."""
    facts, outcomes = facts or Facts(), queries.token_outcomes(now)
    checked = [
        *fleet.daemon(facts.daemon),
        *fleet.nodes(facts.nodes),
        *fleet.labels(facts.nodes),
        *fleet.jobs(state.failing_jobs()),
        *fleet.alerts(state.alerts()),
        *fleet.tasks(now, facts.limits),
        *fleet.questions(),
        *fleet.github(facts.github, facts.limits),
        *fleet.tokens(outcomes),
        *fleet.tokens_in_a_row(outcomes, facts.limits),
        *fleet.keys(now, facts.limits),
        *fleet.vault(facts.vault, facts.limits),
        *fleet.copies(facts.copies, facts.limits),
        *fleet.webhooks(now),
        *fleet.disk(facts.limits),
    ]
    wrong = [each for each in checked if each.severity is not Severity.GOOD and each.key != PAUSED]
    newest = sorted(wrong, key=lambda each: each.since or _LONG_AGO, reverse=True)
    return sorted(newest, key=lambda each: each.severity is not Severity.BAD)


def load(now: datetime, facts: Facts | None = None) -> Problems:
    return divide(findings(now, facts), now)


def divide(wrong: Iterable[Finding], now: datetime) -> Problems:
    """Part the findings by what was acknowledged of them."""
    acknowledged = {row.key: row for row in Acknowledgement.objects.all()}
    problems = Problems([], [])
    for each in wrong:
        row = acknowledged.get(key_of(each))
        if row is not None and _holds(row, each, now):
            problems.waiting.append((each, row))
        else:
            problems.open.append(each)
    return problems


def unacknowledged(now: datetime) -> list[Finding]:
    return load(now).open


def key_of(finding: Finding) -> str:
    """Return what names the problem as long as it lasts."""
    return finding.key or f"{finding.check}: {finding.sentence}"


def acknowledge(*, key: str, by: str, hours: int | None = None) -> Finding | None:
    """Acknowledge a problem, or snooze it for some hours; return it, None when it is over."""
    now = utc_now()
    finding = next((each for each in findings(now) if key_of(each) == key), None)
    if finding is not None:
        until = now + timedelta(hours=hours) if hours else None
        values = {"since": finding.since, "until": until, "by": by, "at": now}
        with transaction.atomic():
            Acknowledgement.objects.update_or_create(key=key, defaults=values)
            Acknowledgement.objects.filter(at__lt=now - _KEPT).delete()
    return finding


def reopen(*, key: str) -> None:
    """Count a problem again."""
    with transaction.atomic():
        Acknowledgement.objects.filter(key=key).delete()


def _holds(row: Acknowledgement, finding: Finding, now: datetime) -> bool:
    """Return whether an acknowledgement is about this finding, and not about an earlier one of the same name."""
    if row.until is not None:
        return now < row.until
    return row.since == finding.since and (finding.since is not None or now - row.at < _WITHOUT_A_BEGINNING)
