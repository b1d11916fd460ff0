"""The kinds of alerts, in one table, with what operators decided about each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.timestamps import seconds_text
from jobs import secret_fields
from jobs.models import AlertKind, AlertSetting, Severity
from tasks import overdue


@dataclass(frozen=True)
class Kind:
    """A kind of alerts: when it is raised, what to do then, how bad it is; `{n}` stands for the threshold."""

    name: AlertKind
    severity: Severity
    when: str
    remedy: str
    threshold: int | None = None
    unit: str = ""


_CRITICAL, _ERROR, _WARNING, _INFO = Severity.CRITICAL, Severity.ERROR, Severity.WARNING, Severity.INFO
KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            AlertKind.DAEMON_DOWN,
            _CRITICAL,
            "the daemon was away for long, and is back",
            "Read daemon.log in the state directory: it says why the daemon ended. Something outside must watch for one"
            " that stays away: it can't tell you.",
        ),
        Kind(
            AlertKind.DAEMON_TROUBLE,
            _CRITICAL,
            "the daemon can't do a part of its work",
            "The sentence says which part; daemon.log has the reason.",
        ),
        Kind(
            AlertKind.FAILING,
            _ERROR,
            "a job failed as often in a row as its settings say",
            "Open the run: its page says why it failed. Then run it again.",
        ),
        Kind(AlertKind.RECOVERED, _ERROR, "a job that failed works again", "Nothing is to be done."),
        Kind(
            AlertKind.LATE,
            _WARNING,
            "a run waits for longer than its job's settings allow",
            "The page of the run says what it waits for: a slot, another run, the end of a pause.",
        ),
        Kind(
            AlertKind.LONG,
            _WARNING,
            "a run takes longer than its job's settings allow",
            "Read the output of the run; abort it if it hangs.",
        ),
        Kind(
            AlertKind.TASK_WAITING,
            _WARNING,
            "a task waits in the queue for more than {n} minutes",
            "See under Fleet whether agents are there and which tasks they may claim; start more of them.",
            overdue.QUEUED_MINUTES,
            "minutes",
        ),
        Kind(
            AlertKind.TASK_ACTIVE,
            _WARNING,
            "a task is active for twice its estimate, or for more than {n} minutes without one",
            "Ask its agent, or take the task away under Fleet: it is queued again.",
            overdue.ACTIVE_MINUTES,
            "minutes",
        ),
        Kind(
            AlertKind.TASK_FAILED,
            _ERROR,
            "a task failed because its holders died one after the other",
            "Read the history of the task; queue it again once the reason is gone.",
        ),
        Kind(
            AlertKind.TASK_RETRIED,
            _ERROR,
            "agents failed {n} times within a day on a task that is not done",
            "Read its history: split it, describe it better, or cancel it, rather than paying for one more try.",
            3,
            "times",
        ),
        Kind(
            AlertKind.LEASE_EXPIRED,
            _WARNING,
            "a lease expired within the last {n} minutes, because its holder gave no sign of life",
            "The task is queued again by itself. Look at the agent: it died, or lost its network.",
            60,
            "minutes",
        ),
        Kind(
            AlertKind.BUDGET,
            _WARNING,
            "a budget is spent, once for its day or month",
            "Raise it under Tasks, Budgets, or wait: until then its tasks get no agents and no tokens.",
        ),
        Kind(
            AlertKind.GITHUB,
            _ERROR,
            "GitHub gave no token when it was last asked",
            "Check the App's settings, its key and its access to the repository: docs/broker.md.",
        ),
        Kind(
            AlertKind.RATE_LIMIT,
            _WARNING,
            "GitHub said to wait, or fewer than {n} calls are left in the hour",
            "It passes within the hour. Look in the audit for who asks for so many tokens.",
            500,
            "calls",
        ),
        Kind(
            AlertKind.TOKENS_REFUSED,
            _WARNING,
            "the newest {n} requests for tokens were all refused or failed",
            "The audit has the reason of each: often a task that isn't registered, or a repository that isn't its own.",
            5,
            "requests",
        ),
        Kind(
            AlertKind.VAULT,
            _ERROR,
            "the vault can't be synced",
            "The page of the vault has git's words; docs/vault.md says how it is mended.",
        ),
        Kind(
            AlertKind.VAULT_BEHIND,
            _WARNING,
            "the vault can't be pushed, or more than {n} events wait for it",
            "See that its remote can be reached and may be written. Nothing is lost meanwhile.",
            100,
            "events",
        ),
        Kind(
            AlertKind.COPY_OLD,
            _ERROR,
            "the newest copy of the database is older than {n} hours",
            "See that the daemon runs and the disk has room; daemon.log says why no copy was made.",
            3,
            "hours",
        ),
        Kind(
            AlertKind.RESTORE_TEST,
            _CRITICAL,
            "a copy of the database could not be restored",
            "Run `manage.py backup` now, and check the disk.",
        ),
        Kind(
            AlertKind.DISK,
            _CRITICAL,
            "a disk that lobwife writes to has less than {n} MB free",
            "Make room: lower LOBWIFE_KEEP_OUTPUT_BYTES, remove old copies, or enlarge the disk.",
            200,
            "MB",
        ),
        Kind(
            AlertKind.KEY_EXPIRES,
            _WARNING,
            "an API key that is used expires within {n} days",
            "Create another under Tokens, API keys, give it to its program, then revoke the old one.",
            7,
            "days",
        ),
        Kind(
            AlertKind.WEBHOOK_PAUSED,
            _ERROR,
            "a webhook was paused, since its receiver failed for three days or is gone",
            "Mend the receiver, then resume the webhook on its page: it goes on with the event that it stopped at.",
        ),
        Kind(
            AlertKind.QUESTION,
            _WARNING,
            "an agent asked a question that nobody has answered",
            "Answer it under Questions, over REST, or in the note of its task: the agent waits for it.",
        ),
        Kind(AlertKind.DIGEST, _INFO, "once a day, at the hour of the schedule", "Nothing is to be done."),
        Kind(AlertKind.TEST, _INFO, "somebody pressed “Send test”", "Nothing is to be done."),
    )
}
# These are sent in quiet hours too: somebody asked for them at that time.
AT_ONCE = (AlertKind.TEST, AlertKind.DIGEST)


@dataclass(frozen=True)
class CurrentKind:
    """A kind as it is now: the table's defaults under what operators decided."""

    kind: Kind
    row: AlertSetting

    @property
    def severity(self) -> Severity:
        return Severity(self.row.severity or self.kind.severity)

    @property
    def threshold(self) -> int:
        """Return the limit; 0 for a kind that has none."""
        return self.kind.threshold or 0 if self.row.threshold is None else self.row.threshold

    @property
    def when(self) -> str:
        return self.kind.when.format(n=self.threshold)

    @property
    def urls(self) -> list[str]:
        """Return its own recipients; empty when it goes to everybody's."""
        return secret_fields.split(self.row.urls)

    @property
    def masked_urls(self) -> list[str]:
        return [secret_fields.mask(url) for url in self.urls]

    def is_snoozed(self, now: datetime) -> bool:
        return self.row.snoozed_until is not None and self.row.snoozed_until > now

    def silence(self, now: datetime) -> str:
        """Return why it is not sent now; empty when it is."""
        if not self.row.is_on:
            return "alerts of this kind are off"
        until = self.row.snoozed_until
        return f"snoozed until {seconds_text(until)} UTC" if until and self.is_snoozed(now) else ""


def load() -> dict[AlertKind, CurrentKind]:
    """Return every kind as it is now, by one query."""
    rows = {row.kind: row for row in AlertSetting.objects.all()}
    return {name: CurrentKind(kind, rows.get(name) or AlertSetting(kind=name)) for name, kind in KINDS.items()}


def overdue_limits() -> overdue.Limits:
    """Return after how many minutes a task is overdue."""
    limits = thresholds()
    return overdue.Limits(limits[AlertKind.TASK_ACTIVE], limits[AlertKind.TASK_WAITING])


def thresholds() -> dict[AlertKind, int]:
    """Return the limits of all kinds."""
    return {name: current.threshold for name, current in load().items()}
