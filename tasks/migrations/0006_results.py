"""Tables for the links and the result of a task."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0005_leases")]
    operations = [
        migrations.CreateModel(
            name="TaskLink",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("task_id", models.PositiveBigIntegerField()),
                (
                    "kind",
                    models.TextField(
                        choices=[
                            ("pull", "Pull request"),
                            ("branch", "Branch"),
                            ("commit", "Commit"),
                            ("issue", "Issue"),
                            ("other", "Other"),
                        ]
                    ),
                ),
                ("url", models.TextField()),
                ("added_at", models.DateTimeField()),
                ("added_by", models.TextField(blank=True, default="")),
            ],
            options={
                "ordering": ["id"],
                "constraints": [models.UniqueConstraint(fields=("task_id", "url"), name="one_link_per_url")],
            },
        ),
        migrations.CreateModel(
            name="TaskResult",
            fields=[
                ("task_id", models.PositiveBigIntegerField(primary_key=True, serialize=False)),
                ("summary", models.TextField()),
                ("data", models.JSONField(null=True)),
                ("written_at", models.DateTimeField()),
                ("written_by", models.TextField(blank=True, default="")),
            ],
        ),
    ]
