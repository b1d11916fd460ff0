"""Alerts say when a budget is spent."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0006_runs_by_time"),
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
                    ("budget", "budget spent"),
                ]
            ),
        ),
    ]
