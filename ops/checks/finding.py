"""The result of a check: of the machine for the doctor, of the fleet for the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is: nothing to do, to be looked at, broken now."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """What a check found, in a sentence; the remedy says what to do, `url` leads to the page where it is done."""

    check: str
    sentence: str
    remedy: str = ""
    severity: Severity = Severity.GOOD
    url: str = ""

    @property
    def is_well(self) -> bool:
        return self.severity is Severity.GOOD and not self.remedy


def worst(findings: list[Finding]) -> Severity:
    """Return the severity of the worst finding."""
    severities = {finding.severity for finding in findings}
    return next((severity for severity in (Severity.BAD, Severity.WARN) if severity in severities), Severity.GOOD)
