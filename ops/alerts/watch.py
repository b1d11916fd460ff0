"""The daemon's part: what the checks find, alerted as it begins and ends."""

from __future__ import annotations

from core.timestamps import utc_now
from jobs.alerts import conditions
from jobs.alerts.conditions import Condition
from ops import problems
from ops.alerts import digest
from ops.checks import Finding


class Watch:
    """Looks at all that is not well; `tick()` is one look."""

    def tick(self) -> bool:
        """Alert what began and what is over since the last look, and send the digest when it is due."""
        now = utc_now()
        divided = problems.load(now)
        acknowledged = [finding for finding, _ in divided.waiting]
        present = [*_conditions(divided.open), *_conditions(acknowledged, is_acknowledged=True)]
        conditions.follow(present, now)
        digest.send_when_due(divided, now)
        return False


def _conditions(findings: list[Finding], *, is_acknowledged: bool = False) -> list[Condition]:
    return [
        Condition(
            kind=finding.kind,
            key=problems.key_of(finding),
            title=finding.sentence,
            body="\n".join(part for part in (finding.reason, finding.remedy) if part),
            path=finding.url,
            is_acknowledged=is_acknowledged,
        )
        for finding in findings
        if finding.kind is not None
    ]
