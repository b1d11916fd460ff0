"""Alerts say when a budget is spent."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0007_task_failed_alert"),
    ]

    operations = [
        migrations.AlterField(
            model_name="alert",
            name="kind",
            field=models.TextField(
                choices=[
                    ("failing", "Failing"),
                    ("recovered", "Recovered"),
                    ("late", "Late"),
                    ("long", "Long"),
                    ("daemon-down", "daemon down"),
                    ("task-failed", "task failed"),
                    ("budget", "budget spent"),
                ]
            ),
        ),
    ]
