"""Make the jobs' tables, make or adopt `job_state`."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

from core.database.schema import AdoptOrCreate
from core.sqlite.schema import AdoptTable

JOB_STATE = """
CREATE TABLE job_state (
    name TEXT PRIMARY KEY,
    last_run TEXT,
    last_status TEXT,
    last_duration REAL,
    last_output TEXT,
    run_count INTEGER NOT NULL DEFAULT 0,
    fail_count INTEGER NOT NULL DEFAULT 0,
    enabled INTEGER NOT NULL DEFAULT 1
)
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Daemon",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("pid", models.IntegerField(null=True)),
                ("boot_id", models.TextField(blank=True, default="")),
                ("version", models.TextField(blank=True, default="")),
                ("started_at", models.DateTimeField(null=True)),
                ("beat_at", models.DateTimeField(null=True)),
                (
                    "trouble",
                    models.TextField(blank=True, default="", help_text="What the daemon can't do now, in a sentence."),
                ),
                ("paused_at", models.DateTimeField(null=True)),
                ("paused_by", models.TextField(blank=True, default="")),
            ],
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.TextField(
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\\Z",
                                "Use up to 100 letters, digits, dots, dashes, underscores.",
                            )
                        ],
                    ),
                ),
                ("description", models.TextField(blank=True, default="")),
                (
                    "script",
                    models.TextField(help_text="A file name in one of the scripts' folders, ending in .py or .sh."),
                ),
                ("schedule", models.TextField(help_text="Five cron fields, or a name such as @hourly.")),
                ("timezone", models.TextField(db_default="UTC", default="UTC")),
                ("timeout_seconds", models.PositiveIntegerField(db_default=300, default=300)),
                (
                    "concurrency",
                    models.TextField(
                        choices=[
                            ("forbid", "forbid: skip it"),
                            ("allow", "allow: run side by side, up to a maximum"),
                            ("replace", "replace: abort the earlier run, then start"),
                            ("queue", "queue: one waits for its turn"),
                        ],
                        db_default="forbid",
                        default="forbid",
                    ),
                ),
                ("max_parallel", models.PositiveSmallIntegerField(db_default=2, default=2)),
                (
                    "misfire",
                    models.TextField(
                        choices=[
                            ("skip", "skip: none of them runs"),
                            ("once", "once: the last one runs"),
                            ("all", "all: each runs, up to a maximum"),
                        ],
                        db_default="once",
                        default="once",
                    ),
                ),
                ("misfire_max", models.PositiveSmallIntegerField(db_default=10, default=10)),
                ("start_deadline_seconds", models.PositiveIntegerField(blank=True, null=True)),
                ("retries", models.PositiveSmallIntegerField(db_default=0, default=0)),
                ("retry_delay_seconds", models.PositiveIntegerField(db_default=30, default=30)),
                ("retry_delay_max_seconds", models.PositiveIntegerField(db_default=3600, default=3600)),
                ("arguments", models.JSONField(blank=True, default=list)),
                ("environment", models.JSONField(blank=True, default=dict)),
                ("working_directory", models.TextField(blank=True, default="")),
                ("alert_urls", models.TextField(blank=True, default="")),
                ("alert_after_failures", models.PositiveSmallIntegerField(db_default=1, default=1)),
                ("late_after_seconds", models.PositiveIntegerField(blank=True, null=True)),
                ("long_after_seconds", models.PositiveIntegerField(blank=True, null=True)),
                ("ping_url", models.TextField(blank=True, default="")),
                ("settled_through", models.DateTimeField(blank=True, db_index=True, editable=False, null=True)),
                ("next_firing", models.DateTimeField(blank=True, db_index=True, editable=False, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        AdoptOrCreate(
            state_operations=[
                migrations.CreateModel(
                    name="JobState",
                    fields=[
                        ("name", models.TextField(primary_key=True, serialize=False)),
                        ("last_run", models.TextField(blank=True, null=True)),
                        ("last_status", models.TextField(blank=True, null=True)),
                        ("last_duration", models.FloatField(blank=True, null=True)),
                        ("last_output", models.TextField(blank=True, null=True)),
                        ("run_count", models.IntegerField(db_default=0, default=0)),
                        ("fail_count", models.IntegerField(db_default=0, default=0)),
                        ("enabled", models.BooleanField(db_default=True, default=True)),
                    ],
                    options={
                        "db_table": "job_state",
                    },
                ),
            ],
            database_operations=[AdoptTable("job_state", JOB_STATE)],
        ),
        migrations.CreateModel(
            name="JobRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "state",
                    models.TextField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("success", "Success"),
                            ("failed", "Failed"),
                            ("timeout", "Timeout"),
                            ("error", "Error"),
                            ("aborted", "Aborted"),
                            ("lost", "Lost"),
                            ("skipped", "Skipped"),
                        ],
                        default="queued",
                    ),
                ),
                (
                    "trigger",
                    models.TextField(
                        choices=[
                            ("schedule", "Schedule"),
                            ("rest", "Rest"),
                            ("operator", "Operator"),
                            ("command", "Command"),
                            ("retry", "Retry"),
                            ("catch-up", "Catch Up"),
                        ]
                    ),
                ),
                ("requested_by", models.TextField(blank=True, default="")),
                ("scheduled_for", models.DateTimeField(blank=True, null=True)),
                ("queued_at", models.DateTimeField()),
                ("not_before", models.DateTimeField(blank=True, null=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("attempt", models.PositiveSmallIntegerField(default=1)),
                ("exit_code", models.SmallIntegerField(blank=True, null=True)),
                ("signal", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("duration", models.FloatField(blank=True, help_text="Seconds.", null=True)),
                (
                    "note",
                    models.TextField(
                        blank=True, default="", help_text="Why the run stands where it does, in a sentence."
                    ),
                ),
                (
                    "definition",
                    models.JSONField(default=dict, help_text="The job as it was when the run was asked for."),
                ),
                ("pid", models.IntegerField(blank=True, null=True)),
                ("pid_started", models.BigIntegerField(blank=True, null=True)),
                ("boot_id", models.TextField(blank=True, default="")),
                ("abort_requested_at", models.DateTimeField(blank=True, null=True)),
                ("abort_requested_by", models.TextField(blank=True, default="")),
                ("output_bytes", models.BigIntegerField(default=0)),
                (
                    "job",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="runs", to="jobs.job"),
                ),
                (
                    "retry_of",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="retried_by",
                        to="jobs.jobrun",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["state", "id"], name="runs_by_state"),
                    models.Index(fields=["job", "state"], name="runs_of_job_by_state"),
                ],
                "constraints": [models.UniqueConstraint(fields=("job", "scheduled_for"), name="one_run_per_firing")],
            },
        ),
    ]
