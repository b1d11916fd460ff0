"""The four jobs that a new installation has (contract, "Jobs")."""

from django.db import migrations

FOUR_JOBS = (
    (
        "task-manager",
        "*/5 * * * *",
        "lobmob-task-manager.py",
        "Task assignment, timeout detection, orphan recovery",
    ),
    ("review-prs", "*/2 * * * *", "lobmob-review-prs.sh", "Deterministic PR validation and auto-merge"),
    ("status-reporter", "*/30 * * * *", "lobmob-status-reporter.py", "Fleet summary posted to Discord"),
    ("flush-logs", "*/30 * * * *", "lobmob-flush-logs.sh", "Flush event logs to vault"),
)


def define(apps, schema_editor):
    Job = apps.get_model("jobs", "Job")
    for name, schedule, script, description in FOUR_JOBS:
        Job.objects.get_or_create(
            name=name, defaults={"schedule": schedule, "script": script, "description": description}
        )


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]
    operations = [migrations.RunPython(define, migrations.RunPython.noop)]
