"""Make or adopt `broker_tasks` and `token_audit`."""

from django.db import migrations, models

import core.timestamps
from core.database.schema import AdoptOrCreate
from core.sqlite.schema import AdoptTable

REGISTRATIONS = """
CREATE TABLE broker_tasks (
    task_id TEXT PRIMARY KEY,
    repos TEXT NOT NULL,
    lobster_type TEXT NOT NULL DEFAULT 'unknown',
    registered_at TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'active',
    token_count INTEGER NOT NULL DEFAULT 0
)
"""
AUDIT = """
CREATE TABLE token_audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL,
    repos TEXT,
    action TEXT NOT NULL,
    created_at TEXT NOT NULL
)
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        AdoptOrCreate(
            state_operations=[
                migrations.CreateModel(
                    name="LegacyRegistration",
                    fields=[
                        ("task_id", models.TextField(primary_key=True, serialize=False)),
                        ("repos", models.TextField()),
                        ("lobster_type", models.TextField(default="unknown", db_default="unknown")),
                        ("registered_at", models.TextField(default=core.timestamps.iso_text)),
                        ("status", models.TextField(default="active", db_default="active")),
                        ("token_count", models.IntegerField(default=0, db_default=0)),
                    ],
                    options={"db_table": "broker_tasks", "ordering": ["-registered_at"]},
                ),
                migrations.CreateModel(
                    name="TokenAudit",
                    fields=[
                        ("id", models.AutoField(primary_key=True, serialize=False)),
                        ("task_id", models.TextField()),
                        ("repos", models.TextField(blank=True, null=True)),
                        ("action", models.TextField()),
                        ("created_at", models.TextField(default=core.timestamps.iso_text)),
                    ],
                    options={
                        "db_table": "token_audit",
                        "ordering": ["-id"],
                        "verbose_name_plural": "token audit",
                        "indexes": [models.Index(fields=["task_id"], name="idx_token_audit_task_id")],
                    },
                ),
            ],
            database_operations=[
                AdoptTable("broker_tasks", REGISTRATIONS),
                AdoptTable(
                    "token_audit",
                    AUDIT,
                    indexes=["CREATE INDEX IF NOT EXISTS idx_token_audit_task_id ON token_audit(task_id)"],
                ),
            ],
        )
    ]
