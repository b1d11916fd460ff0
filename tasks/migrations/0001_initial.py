"""Make or adopt `tasks`, `task_events` and `schema_version`, from any version that installations have."""

import django.db.models.deletion
from django.db import migrations, models

import core.timestamps
from core.database.schema import AdoptOrCreate
from core.sqlite.schema import AdoptTable

TASKS = """
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    slug TEXT,
    type TEXT NOT NULL DEFAULT 'swe',
    status TEXT NOT NULL DEFAULT 'queued',
    priority TEXT NOT NULL DEFAULT 'normal',
    model TEXT,
    assigned_to TEXT,
    repos TEXT,
    discord_thread_id TEXT,
    estimate_minutes INTEGER,
    requires_qa INTEGER NOT NULL DEFAULT 0,
    workflow TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now')),
    queued_at TEXT NOT NULL DEFAULT (datetime('now')),
    assigned_at TEXT,
    completed_at TEXT,
    broker_repos TEXT,
    broker_status TEXT,
    token_count INTEGER NOT NULL DEFAULT 0,
    broker_registered_at TEXT
)
"""
EVENTS = """
CREATE TABLE task_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id INTEGER NOT NULL REFERENCES tasks(id),
    event_type TEXT NOT NULL,
    detail TEXT,
    actor TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    status TEXT
)
"""
VERSIONS = """
CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (datetime('now'))
)
"""
VERSIONS_ELSEWHERE = """
CREATE TABLE schema_version (
    version integer NOT NULL,
    applied_at text NOT NULL DEFAULT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
)
"""
NOW = core.timestamps.UtcNow()


def text(**options):
    return models.TextField(**options)


def moment():
    return models.TextField(default=core.timestamps.seconds_text, db_default=NOW, editable=False)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        AdoptOrCreate(
            state_operations=[
                migrations.CreateModel(
                    name="Task",
                    fields=[
                        ("id", models.AutoField(primary_key=True, serialize=False)),
                        ("name", text()),
                        ("slug", text(null=True, blank=True)),
                        ("type", text(default="swe", db_default="swe")),
                        ("status", text(default="queued", db_default="queued")),
                        ("priority", text(default="normal", db_default="normal")),
                        ("model", text(null=True, blank=True)),
                        ("assigned_to", text(null=True, blank=True)),
                        ("repos", text(null=True, blank=True)),
                        ("discord_thread_id", text(null=True, blank=True)),
                        ("estimate_minutes", models.IntegerField(null=True, blank=True)),
                        ("requires_qa", models.BooleanField(default=False, db_default=False)),
                        ("workflow", text(null=True, blank=True)),
                        ("created_at", moment()),
                        ("updated_at", moment()),
                        ("queued_at", moment()),
                        ("assigned_at", text(null=True, blank=True)),
                        ("completed_at", text(null=True, blank=True)),
                        ("broker_repos", text(null=True, blank=True, editable=False)),
                        ("broker_status", text(null=True, blank=True, editable=False)),
                        ("token_count", models.IntegerField(default=0, db_default=0, editable=False)),
                        ("broker_registered_at", text(null=True, blank=True, editable=False)),
                    ],
                    options={
                        "db_table": "tasks",
                        "ordering": ["-id"],
                        "indexes": [
                            models.Index(fields=["status"], name="idx_tasks_status"),
                            models.Index(fields=["type"], name="idx_tasks_type"),
                        ],
                    },
                ),
                migrations.CreateModel(
                    name="TaskEvent",
                    fields=[
                        ("id", models.AutoField(primary_key=True, serialize=False)),
                        ("event_type", text()),
                        ("detail", text(null=True, blank=True)),
                        ("actor", text(null=True, blank=True)),
                        ("created_at", moment()),
                        ("status", text(null=True, blank=True)),
                        (
                            "task",
                            models.ForeignKey(
                                on_delete=django.db.models.deletion.PROTECT,
                                related_name="events",
                                db_index=False,
                                to="tasks.task",
                            ),
                        ),
                    ],
                    options={
                        "db_table": "task_events",
                        "ordering": ["-id"],
                        "indexes": [models.Index(fields=["task"], name="idx_task_events_task_id")],
                    },
                ),
            ],
            database_operations=[
                AdoptTable("schema_version", VERSIONS, elsewhere=VERSIONS_ELSEWHERE),
                AdoptTable(
                    "tasks",
                    TASKS,
                    columns={
                        "broker_repos": "TEXT",
                        "broker_status": "TEXT",
                        "token_count": "INTEGER NOT NULL DEFAULT 0",
                        "broker_registered_at": "TEXT",
                    },
                    indexes=[
                        "CREATE INDEX IF NOT EXISTS idx_tasks_status ON tasks(status)",
                        "CREATE INDEX IF NOT EXISTS idx_tasks_type ON tasks(type)",
                    ],
                ),
                AdoptTable(
                    "task_events",
                    EVENTS,
                    columns={"status": "TEXT"},
                    indexes=["CREATE INDEX IF NOT EXISTS idx_task_events_task_id ON task_events(task_id)"],
                ),
                migrations.RunSQL(
                    "INSERT INTO schema_version (version) SELECT 2"
                    " WHERE NOT EXISTS (SELECT 1 FROM schema_version WHERE version = 2)"
                ),
            ],
        )
    ]
