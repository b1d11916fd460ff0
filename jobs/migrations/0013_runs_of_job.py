from django.db import migrations, models


class Migration(migrations.Migration):
    """The index of a job's runs, with what the summary by job adds up."""

    dependencies = [("jobs", "0012_question_alerts")]

    operations = [
        migrations.AddIndex(
            model_name="jobrun",
            index=models.Index(fields=["job", "state", "queued_at", "duration"], name="runs_of_job"),
        ),
        migrations.RemoveIndex(model_name="jobrun", name="runs_of_job_by_state"),
    ]
