"""Jobs, their runs, and the daemon that runs them. `job_state` is the table that existing installations have."""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Concat, Now

from core.database.backend import is_postgres

_is_a_name = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z", "Use up to 100 letters, digits, dots, dashes, underscores."
)

_is_a_variable = RegexValidator(
    r"\A[A-Za-z_][A-Za-z0-9_]{0,99}\Z", "A secret is named like a variable: letters, digits, underscores."
)

is_a_label = RegexValidator(
    r"\A[a-z0-9][a-z0-9_.-]{0,49}\Z", "Use up to 50 lower-case letters, digits, dots, dashes, underscores."
)
# What a job's runs have that names no label: every daemon serves it.
DEFAULT_LABEL = "default"


class Concurrency(models.TextChoices):
    """The policy for a firing while an earlier run of the same job is not over."""

    FORBID = "forbid", "forbid: skip it"
    ALLOW = "allow", "allow: run side by side, up to a maximum"
    REPLACE = "replace", "replace: abort the earlier run, then start"
    QUEUE = "queue", "queue: one waits for its turn"


class Misfire(models.TextChoices):
    """The policy for firings that were missed while the daemon was down or paused."""

    SKIP = "skip", "skip: none of them runs"
    ONCE = "once", "once: the last one runs"
    ALL = "all", "all: each runs, up to a maximum"


class Trigger(models.TextChoices):
    """The origin of a run."""

    SCHEDULE = "schedule"
    REST = "rest"
    OPERATOR = "operator"
    COMMAND = "command"
    RETRY = "retry"
    CATCH_UP = "catch-up"


class State(models.TextChoices):
    """The state of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    ERROR = "error"
    ABORTED = "aborted"
    LOST = "lost"
    SKIPPED = "skipped"


# A daemon beats every 5 seconds; after so long without one it counts as gone.
_HEARTBEAT_STALE_AFTER = timedelta(seconds=20)
_ELSEWHERE_STALE_AFTER = timedelta(seconds=60)
ACTIVE = (State.QUEUED, State.RUNNING)
# How a run ends that failed: it is counted, alerted, retried. One that somebody aborted is none of these.
FAILURES = (State.FAILED, State.TIMEOUT, State.ERROR, State.LOST)


class Job(models.Model):
    """A script with a schedule. Whether it is enabled lives in `job_state` alone."""

    name = models.TextField(unique=True, validators=[_is_a_name])
    description = models.TextField(blank=True, default="")
    script = models.TextField(help_text="A file name in one of the scripts' folders, ending in .py or .sh.")
    schedule = models.TextField(help_text="Five cron fields, or a name such as @hourly.")
    timezone = models.TextField(default="UTC", db_default="UTC")
    timeout_seconds = models.PositiveIntegerField(default=300, db_default=300)
    concurrency = models.TextField(
        choices=Concurrency.choices, default=Concurrency.FORBID, db_default=Concurrency.FORBID
    )
    max_parallel = models.PositiveSmallIntegerField(default=2, db_default=2)
    misfire = models.TextField(choices=Misfire.choices, default=Misfire.ONCE, db_default=Misfire.ONCE)
    misfire_max = models.PositiveSmallIntegerField(default=10, db_default=10)
    start_deadline_seconds = models.PositiveIntegerField(null=True, blank=True)
    retries = models.PositiveSmallIntegerField(default=0, db_default=0)
    retry_delay_seconds = models.PositiveIntegerField(default=30, db_default=30)
    retry_delay_max_seconds = models.PositiveIntegerField(default=3600, db_default=3600)
    arguments = models.JSONField(default=list, blank=True)
    environment = models.JSONField(default=dict, blank=True, help_text="Variables of the script; no secrets.")
    secrets = models.JSONField(
        default=list,
        blank=True,
        help_text="Names of secrets that the script gets as variables: NAME, or VARIABLE=NAME.",
    )
    working_directory = models.TextField(blank=True, default="")
    runs_on = models.TextField(
        blank=True,
        default="",
        db_default="",
        validators=[is_a_label],
        help_text="The label of the runners that execute it. Empty: the daemons do.",
    )
    alert_urls = models.TextField(blank=True, default="", help_text="Where alerts go beside the global places.")
    alert_after_failures = models.PositiveSmallIntegerField(
        default=1, db_default=1, help_text="Alert after this many failed runs in a row."
    )
    late_after_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="Alert when a run has not started this long after it was due."
    )
    long_after_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="Alert when a run takes longer than this."
    )
    ping_url = models.TextField(
        blank=True, default="", help_text="An outside watchdog: /start, the URL itself and /fail are called."
    )
    # Up to here the schedule's firings are dealt with; null on a job that the daemon has not seen yet.
    settled_through = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)
    # The first firing after settled_through; null also where there is none.
    next_firing = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)
    # What the alerts know of the job: each is set by the transition that was alerted, and cleared by the one back.
    failures_in_row = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    late_since = models.DateTimeField(null=True, blank=True, editable=False)
    long_since = models.DateTimeField(null=True, blank=True, editable=False)
    alerts_snoozed_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.name

    @property
    def most_at_once(self) -> int:
        """The number of its runs that may run side by side."""
        return self.max_parallel if self.concurrency == Concurrency.ALLOW else 1


class Secret(models.Model):
    """A value that scripts get and nobody can read back: jobs name it, and it is encrypted with the secret key."""

    name = models.TextField(
        unique=True, validators=[_is_a_variable], help_text="Named like a variable: letters, digits, underscores."
    )
    encrypted = models.TextField(editable=False)
    changed_at = models.DateTimeField(editable=False)
    changed_by = models.TextField(editable=False)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class JobState(models.Model):
    """The summary of a job that the contract's routes show; the row may be of a job that is no more."""

    name = models.TextField(primary_key=True)
    last_run = models.TextField(null=True, blank=True)
    last_status = models.TextField(null=True, blank=True)
    last_duration = models.FloatField(null=True, blank=True)
    last_output = models.TextField(null=True, blank=True)
    run_count = models.IntegerField(default=0, db_default=0)
    fail_count = models.IntegerField(default=0, db_default=0)
    enabled = models.BooleanField(default=True, db_default=True)

    class Meta:
        db_table = "job_state"

    def __str__(self) -> str:
        return self.name


class JobRunQuerySet(models.QuerySet["JobRun"]):
    def active(self) -> JobRunQuerySet:
        """Queued or running, in no order: asked for one, SQLite reads a job's whole history for it."""
        return self.filter(state__in=ACTIVE).order_by()

    def waiting(self) -> JobRunQuerySet:
        """Queued, in the order in which they start."""
        return self.filter(state=State.QUEUED).order_by("id")

    def ready(self, now: datetime) -> JobRunQuerySet:
        """Waiting, but for retries whose time has not come; one queued later than now: the clock was set back since."""
        return self.waiting().exclude(not_before__gt=now, queued_at__lte=now)

    def end_queued(self, state: State, now: datetime, reason: str, **values: object) -> int:
        """End those that are queued; the reason goes after what their note says already. Return how many."""
        longer = Concat(F("note"), Value("; "), Value(reason))
        note = Case(When(note="", then=Value(reason)), default=longer, output_field=models.TextField())
        return self.filter(state=State.QUEUED).update(state=state, ended_at=now, note=note, **values)

    def request_abort(self, now: datetime, actor: str) -> None:
        """Ask the daemon to end those that run; the first one who asked is recorded."""
        running = self.filter(state=State.RUNNING, abort_requested_at__isnull=True)
        running.update(abort_requested_at=now, abort_requested_by=actor)


class JobRun(models.Model):
    """One execution of a job, from the moment it is asked for."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="runs")
    state = models.TextField(choices=State.choices, default=State.QUEUED)
    trigger = models.TextField(choices=Trigger.choices)
    requested_by = models.TextField(blank=True, default="")
    scheduled_for = models.DateTimeField(null=True, blank=True)
    queued_at = models.DateTimeField()
    not_before = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveSmallIntegerField(default=1)
    retry_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retried_by")
    exit_code = models.SmallIntegerField(null=True, blank=True)
    signal = models.PositiveSmallIntegerField(null=True, blank=True)
    duration = models.FloatField(null=True, blank=True, help_text="Seconds.")
    note = models.TextField(blank=True, default="", help_text="Why the run stands where it does, in a sentence.")
    definition = models.JSONField(default=dict, help_text="The job as it was when the run was asked for.")
    # The run's supervisor: with the boot id and its start time a reused pid is told apart.
    pid = models.IntegerField(null=True, blank=True)
    pid_started = models.BigIntegerField(null=True, blank=True)
    boot_id = models.TextField(blank=True, default="")
    node = models.TextField(
        blank=True, default="", db_default="", help_text="Who executes it, as HOST/PID, where there are several."
    )
    node_row = models.BigIntegerField(null=True, blank=True, editable=False)  # no key: the run outlives the node
    abort_requested_at = models.DateTimeField(null=True, blank=True)
    abort_requested_by = models.TextField(blank=True, default="")
    output_bytes = models.BigIntegerField(default=0)

    objects: ClassVar[JobRunQuerySet] = JobRunQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "scheduled_for"], name="one_run_per_firing"),
        ]
        indexes: ClassVar = [
            # Not a partial one over ACTIVE: SQLite does not use that for a query with parameters.
            models.Index(fields=["state", "id"], name="runs_by_state"),
            # With what the summary by job adds up: from the rows themselves that took six times as long.
            models.Index(fields=["job", "state", "queued_at", "duration"], name="runs_of_job"),
            # With what charts count of a run, so that a fortnight is read from the index alone.
            models.Index(fields=["queued_at", "state", "job", "duration"], name="runs_by_time"),
        ]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.job.name}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def arguments(self) -> list[str]:
        """The arguments of the script; none where the definition was broken by hand."""
        return (self.definition.get("arguments") if isinstance(self.definition, dict) else None) or []

    @property
    def label(self) -> str:
        """The label that a runner has to serve to execute it."""
        return (self.definition.get("runs_on") if isinstance(self.definition, dict) else "") or DEFAULT_LABEL

    def change(self, states: Sequence[str], **values: Any) -> bool:
        """Change the row, not this object, if it is in one of these states; return whether it was."""
        return bool(JobRun.objects.filter(pk=self.pk, state__in=states).update(**values))


class OutputPiece(models.Model):
    """A piece of a run's output, where runs are executed on several machines: the bytes from `offset` to `end`."""

    run = models.ForeignKey(JobRun, on_delete=models.CASCADE, related_name="pieces")
    offset = models.BigIntegerField()
    end = models.BigIntegerField()
    data = models.BinaryField()
    times = models.JSONField(default=list, help_text="Where the output of each second begins, with the second.")

    class Meta:
        ordering: ClassVar = ["run", "offset"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "offset"], name="one_piece_per_offset")]

    def __str__(self) -> str:
        return f"{self.offset} to {self.end} of run {self.run_id}"


class Daemon(models.Model):
    """The one row about the daemon: who it is, when it last gave a sign of life, and whether starts are paused.

    Of several daemons it is about the one that leads.
    """

    pid = models.IntegerField(null=True)
    boot_id = models.TextField(blank=True, default="")
    version = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(null=True)
    beat_at = models.DateTimeField(null=True)
    trouble = models.TextField(blank=True, default="", help_text="What the daemon can't do now, in a sentence.")
    paused_at = models.DateTimeField(null=True)
    paused_by = models.TextField(blank=True, default="")
    # Grows by one whenever a daemon begins to lead; a transaction of an earlier leader is not committed.
    term = models.BigIntegerField(default=0, db_default=0, editable=False)

    PK: ClassVar = 1

    def __str__(self) -> str:
        return f"daemon {self.pid}"

    @classmethod
    def load(cls) -> Daemon:
        """Return the row; one with defaults, not saved, where no daemon ever ran."""
        return cls.objects.filter(pk=cls.PK).first() or cls(pk=cls.PK)

    def is_alive(self, now: datetime) -> bool:
        """Return whether the last heartbeat is recent; one from the future was left by a clock that was set back."""
        return bool(self.pid and self.beat_at and is_fresh(now - self.beat_at))


def is_fresh(age: timedelta) -> bool:
    """Return whether a heartbeat of that age means that the daemon is alive; with a server, clocks may differ."""
    return abs(age) < (_ELSEWHERE_STALE_AFTER if is_postgres() else _HEARTBEAT_STALE_AFTER)


class NodeKind(models.TextChoices):
    """What a node is there for."""

    DAEMON = "daemon"
    RUNNER = "runner"
    WEB = "web"


class NodeQuerySet(models.QuerySet["Node"]):
    def alive(self) -> NodeQuerySet:
        """Those that beat a moment ago, by the database's clock, since those of machines differ."""
        return self.filter(beat_at__gt=Now() - _HEARTBEAT_STALE_AFTER)

    def gone(self) -> NodeQuerySet:
        """Those that have not beaten for a while: they died."""
        return self.filter(beat_at__lte=Now() - _HEARTBEAT_STALE_AFTER)

    def with_life(self) -> NodeQuerySet:
        """Each with whether it beat a moment ago, as `is_alive`."""
        return self.annotate(is_alive=Case(When(beat_at__gt=Now() - _HEARTBEAT_STALE_AFTER, then=True), default=False))


class Node(models.Model):
    """A process of this installation that beats, where several share a database; each start is a row of its own."""

    kind = models.TextField(choices=NodeKind.choices)
    name = models.TextField(help_text="HOST/PID.")
    labels = models.JSONField(default=list, blank=True, help_text="The labels of jobs whose runs it executes.")
    version = models.TextField(blank=True, default="")
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField(help_text="By the database's clock.")
    leads = models.BooleanField(default=False, db_default=False, help_text="Of the daemons, one leads.")
    running = models.PositiveIntegerField(default=0, db_default=0, help_text="Runs that it executes now.")
    trouble = models.TextField(blank=True, default="", help_text="What it can't do now, in a sentence.")

    objects: ClassVar[NodeQuerySet] = NodeQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering: ClassVar = ["kind", "name", "id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class AlertKind(models.TextChoices):
    """The transitions that people are told of."""

    FAILING = "failing"
    RECOVERED = "recovered"
    LATE = "late"
    LONG = "long"
    DAEMON_DOWN = "daemon-down", "daemon down"
    TEST = "test"
    TASK_FAILED = "task-failed", "task failed"
    BUDGET = "budget", "budget spent"
    TASK_WAITING = "task-waiting", "tasks wait too long"
    TASK_ACTIVE = "task-active", "task active too long"
    TASK_RETRIED = "task-retried", "task failed several times"
    LEASE_EXPIRED = "lease-expired", "lease expired"
    GITHUB = "github", "GitHub refuses"
    RATE_LIMIT = "rate-limit", "GitHub's rate limit"
    TOKENS_REFUSED = "tokens-refused", "tokens refused"
    VAULT = "vault", "vault blocked"
    VAULT_BEHIND = "vault-behind", "vault behind"
    COPY_OLD = "copy-old", "copy too old"
    RESTORE_TEST = "restore-test", "restore test"
    DISK = "disk", "disk nearly full"
    KEY_EXPIRES = "key-expires", "API key expires"
    DAEMON_TROUBLE = "daemon-trouble", "daemon in trouble"
    WEBHOOK_PAUSED = "webhook-paused", "webhook paused"
    QUESTION = "question", "question of an agent"
    DIGEST = "digest", "daily digest"


class Severity(models.TextChoices):
    """How bad an alert is. Quiet hours keep back all but what is critical."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Delivery(models.TextChoices):
    """The state of an alert's delivery."""

    PENDING = "pending"
    SENT = "sent"
    DROPPED = "dropped", "dropped: its destination is no longer configured"
    SNOOZED = "snoozed", "not sent: snoozed, or its kind is off"


class Alert(models.Model):
    """One message to one destination. The destination's URL is a secret: only its fingerprint and mask lie here."""

    kind = models.TextField(choices=AlertKind.choices)
    severity = models.TextField(choices=Severity.choices, default=Severity.ERROR, db_default=Severity.ERROR)
    is_over = models.BooleanField(default=False, db_default=False, help_text="It says that something is well again.")
    job_name = models.TextField(blank=True, default="")
    run = models.ForeignKey(JobRun, null=True, blank=True, on_delete=models.SET_NULL, related_name="alerts")
    title = models.TextField()
    body = models.TextField()
    destination = models.TextField(help_text="Without what is secret in it.")
    fingerprint = models.TextField()
    state = models.TextField(choices=Delivery.choices, default=Delivery.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True, default="", help_text="Why the last attempt failed.")
    created_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.TextField(blank=True, default="")

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["next_attempt_at"], name="alerts_due", condition=Q(state=Delivery.PENDING)),
        ]

    def __str__(self) -> str:
        return self.title


class AlertSetting(models.Model):
    """What operators decided about a kind of alerts; a kind without a row has the defaults of jobs/alerts/kinds.py."""

    kind = models.TextField(primary_key=True, choices=AlertKind.choices, editable=False)
    is_on = models.BooleanField("sent", default=True, help_text="Off: it is shown, and nobody is told.")
    severity = models.TextField(
        choices=Severity.choices,
        blank=True,
        default="",
        help_text="Empty: the default. Only critical breaks the quiet.",
    )
    threshold = models.PositiveIntegerField(null=True, blank=True)
    urls = models.TextField("recipients", blank=True, default="", help_text="In place of LOBWIFE_ALERT_URLS.")
    snoozed_until = models.DateTimeField(null=True, blank=True, editable=False)
    snoozed_by = models.TextField(blank=True, default="", editable=False)

    class Meta:
        verbose_name = "kind of alerts"
        verbose_name_plural = "kinds of alerts"

    def __str__(self) -> str:
        return self.get_kind_display()


class AlertSchedule(models.Model):
    """The one row about when alerts are sent: quiet hours, and the hour of the daily digest."""

    timezone = models.TextField(default="UTC", help_text="Such as Europe/Berlin. The times below are read in it.")
    quiet_from = models.TimeField(null=True, blank=True, help_text="What is not critical waits from then on.")
    quiet_until = models.TimeField(null=True, blank=True, help_text="Then it is sent.")
    digest_at = models.TimeField("daily digest", null=True, blank=True, help_text="Empty: none is sent.")
    digest_sent_at = models.DateTimeField(null=True, editable=False)

    PK: ClassVar = 1

    class Meta:
        verbose_name = verbose_name_plural = "quiet hours and digest"

    def __str__(self) -> str:
        return "quiet hours and digest"

    @classmethod
    def load(cls) -> AlertSchedule:
        """Return the row; one with defaults, not saved, where nobody decided anything."""
        return cls.objects.filter(pk=cls.PK).first() or cls(pk=cls.PK)

    def is_quiet(self, now: datetime) -> bool:
        """Return whether it is between the quiet hours, which may go over midnight."""
        if self.quiet_from is None or self.quiet_until is None:
            return False
        time = now.astimezone(zoneinfo.ZoneInfo(self.timezone)).time()
        if self.quiet_from <= self.quiet_until:
            return self.quiet_from <= time < self.quiet_until
        return time >= self.quiet_from or time < self.quiet_until


class RaisedAlert(models.Model):
    """A condition of the service that was alerted: raised once, resolved once."""

    key = models.TextField(help_text="What names the condition as long as it lasts.")
    kind = models.TextField(choices=AlertKind.choices)
    title = models.TextField()
    body = models.TextField(blank=True, default="")
    path = models.TextField(blank=True, default="", help_text="The page where something is done about it.")
    raised_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering: ClassVar = ["-raised_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key"], name="raised_once", condition=Q(resolved_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return self.title


class PingEvent(models.TextChoices):
    """The kind of a ping to a watchdog."""

    START = "start"
    SUCCESS = "success"
    FAIL = "fail"


class Ping(models.Model):
    """A call to a job's watchdog that is still to be made; the row goes when it was."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="pings")
    event = models.TextField(choices=PingEvent.choices)
    attempts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.event} of {self.job.name}"
