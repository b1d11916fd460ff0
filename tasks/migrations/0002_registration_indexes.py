"""Indexes over the few tasks that hold or held a registration: `/health` counts them."""

from django.db import migrations, models


def index(name, column, condition_sql, condition):
    return migrations.SeparateDatabaseAndState(
        state_operations=[
            migrations.AddIndex("task", models.Index(fields=[column], name=name, condition=condition)),
        ],
        database_operations=[
            migrations.RunSQL(
                f"CREATE INDEX IF NOT EXISTS {name} ON tasks({column}) WHERE {condition_sql}",
                f"DROP INDEX IF EXISTS {name}",
            ),
        ],
    )


class Migration(migrations.Migration):
    dependencies = [("tasks", "0001_initial")]
    operations = [
        index(
            "idx_tasks_broker_status",
            "broker_status",
            "broker_status IS NOT NULL",
            models.Q(broker_status__isnull=False),
        ),
        index("idx_tasks_token_count", "token_count", "token_count > 0", models.Q(token_count__gt=0)),
    ]
