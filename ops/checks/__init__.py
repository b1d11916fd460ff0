"""Is everything well? A check yields findings: its name, a sentence, the remedy, how bad it is.

state.py reads each fact once, for all who show it. fleet.py judges the running fleet, for dashboard and doctor;
machine.py what the service stands on, for the doctor; system.py has Django's system checks, run by the doctor too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time this is read before there are models
    from jobs.models import AlertKind


class Severity(StrEnum):
    """How bad a finding is: nothing to do, to be looked at, broken now."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """The result of a check; the remedy says what to do, `url` leads to the page where it is done.

    `key` names the problem as long as it lasts; `reason` is its cause in one line; `act` is a button: what it says, and
    where it posts to. A finding of a `kind` is alerted when it begins and when it is over.
    """

    check: str
    sentence: str
    severity: Severity
    remedy: str = ""
    url: str = ""
    key: str = ""
    since: datetime | None = None
    reason: str = ""
    act: tuple[str, str] | None = None
    kind: AlertKind | None = None

    @property
    def is_well(self) -> bool:
        """Return whether nothing has to be done."""
        return self.severity is not Severity.BAD and not self.remedy


def good(check: str, sentence: str) -> Finding:
    return Finding(check, sentence, Severity.GOOD)


def warn(check: str, sentence: str, remedy: str = "", url: str = "", **more: Any) -> Finding:
    return Finding(check, sentence, Severity.WARN, remedy, url, **more)


def bad(check: str, sentence: str, remedy: str = "", url: str = "", **more: Any) -> Finding:
    return Finding(check, sentence, Severity.BAD, remedy, url, **more)


def worst(findings: Iterable[Finding]) -> Severity:
    """Return the severity of the worst finding."""
    severities = {finding.severity for finding in findings}
    return next((severity for severity in (Severity.BAD, Severity.WARN) if severity in severities), Severity.GOOD)
