"""Make the tables of leases and relations, and index the queue in its order."""

from django.db import migrations, models

import core.timestamps


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0004_registration_index"),
    ]

    operations = [
        migrations.CreateModel(
            name="TaskDependency",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("task_id", models.BigIntegerField()),
                ("depends_on_id", models.BigIntegerField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name="TaskLease",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("task_id", models.BigIntegerField()),
                ("fence", models.BigIntegerField()),
                ("attempt", models.IntegerField()),
                ("holder", models.TextField()),
                ("runner", models.TextField(blank=True, default="")),
                ("assigned_to", models.TextField()),
                ("seconds", models.IntegerField()),
                ("taken_at", models.DateTimeField(default=core.timestamps.utc_now)),
                ("beat_at", models.DateTimeField(default=core.timestamps.utc_now)),
                ("expires_at", models.DateTimeField()),
                ("progress", models.TextField(blank=True, default="")),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "end",
                    models.TextField(
                        blank=True,
                        choices=[
                            ("released", "Released"),
                            ("expired", "Expired"),
                            ("taken away", "Taken Away"),
                            ("cancelled", "the task was cancelled"),
                        ],
                        default="",
                    ),
                ),
                ("outcome", models.TextField(blank=True, default="")),
                ("reason", models.TextField(blank=True, default="")),
            ],
        ),
        migrations.CreateModel(
            name="TaskPlan",
            fields=[
                ("task_id", models.IntegerField(primary_key=True, serialize=False)),
                ("parent_id", models.BigIntegerField(null=True)),
                ("group", models.TextField(null=True)),
                ("not_before", models.DateTimeField(null=True)),
                ("blocked_by", models.BigIntegerField(null=True)),
                ("fence", models.BigIntegerField(default=0)),
                ("attempt", models.IntegerField(default=0)),
                ("expiries", models.IntegerField(default=0)),
                ("retry_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("status"),
                models.Case(
                    models.When(priority="critical", then=models.Value(0)),
                    models.When(priority="high", then=models.Value(1)),
                    models.When(priority="low", then=models.Value(3)),
                    default=models.Value(2),
                    output_field=models.IntegerField(),
                ),
                models.F("queued_at"),
                models.F("id"),
                condition=models.Q(("status", "queued")),
                name="idx_tasks_queue",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("status"),
                models.F("type"),
                models.Case(
                    models.When(priority="critical", then=models.Value(0)),
                    models.When(priority="high", then=models.Value(1)),
                    models.When(priority="low", then=models.Value(3)),
                    default=models.Value(2),
                    output_field=models.IntegerField(),
                ),
                models.F("queued_at"),
                models.F("id"),
                condition=models.Q(("status", "queued")),
                name="idx_tasks_queue_type",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("status"),
                models.F("repos"),
                models.F("type"),
                models.Case(
                    models.When(priority="critical", then=models.Value(0)),
                    models.When(priority="high", then=models.Value(1)),
                    models.When(priority="low", then=models.Value(3)),
                    default=models.Value(2),
                    output_field=models.IntegerField(),
                ),
                models.F("queued_at"),
                models.F("id"),
                condition=models.Q(("status", "queued")),
                name="idx_tasks_queue_repos",
            ),
        ),
        migrations.AddConstraint(
            model_name="taskdependency",
            constraint=models.UniqueConstraint(
                fields=("task_id", "depends_on_id"), name="task_depends_on_another_once"
            ),
        ),
        migrations.AddIndex(
            model_name="tasklease",
            index=models.Index(
                condition=models.Q(("ended_at__isnull", True)), fields=["expires_at"], name="task_leases_alive"
            ),
        ),
        migrations.AddIndex(
            model_name="tasklease",
            index=models.Index(
                condition=models.Q(("ended_at__isnull", False)), fields=["ended_at"], name="task_leases_ended"
            ),
        ),
        migrations.AddConstraint(
            model_name="tasklease",
            constraint=models.UniqueConstraint(fields=("task_id", "fence"), name="task_lease_has_own_fence"),
        ),
        migrations.AddIndex(
            model_name="taskplan",
            index=models.Index(
                condition=models.Q(("parent_id__isnull", False)), fields=["parent_id"], name="task_plans_by_parent"
            ),
        ),
        migrations.AddIndex(
            model_name="taskplan",
            index=models.Index(
                condition=models.Q(("blocked_by__isnull", False)), fields=["blocked_by"], name="task_plans_blocked"
            ),
        ),
    ]
