from django.db import migrations, models


class Migration(migrations.Migration):
    """An index by time, with what charts count of a run."""

    dependencies = [("jobs", "0005_move_secrets")]

    operations = [
        migrations.AddIndex(
            model_name="jobrun",
            index=models.Index(fields=["queued_at", "state", "job", "duration"], name="runs_by_time"),
        ),
    ]
