from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0013_runs_of_job"),
    ]

    operations = [
        migrations.CreateModel(
            name="Node",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.TextField(choices=[("daemon", "Daemon"), ("runner", "Runner"), ("web", "Web")])),
                ("name", models.TextField(help_text="HOST/PID.")),
                (
                    "labels",
                    models.JSONField(blank=True, default=list, help_text="The labels of jobs whose runs it executes."),
                ),
                ("version", models.TextField(blank=True, default="")),
                ("started_at", models.DateTimeField()),
                ("beat_at", models.DateTimeField(help_text="By the database's clock.")),
                ("leads", models.BooleanField(db_default=False, default=False, help_text="Of the daemons, one leads.")),
                (
                    "running",
                    models.PositiveIntegerField(db_default=0, default=0, help_text="Runs that it executes now."),
                ),
                ("trouble", models.TextField(blank=True, default="", help_text="What it can't do now, in a sentence.")),
            ],
            options={
                "ordering": ["kind", "name", "id"],
            },
        ),
        migrations.AddField(
            model_name="daemon",
            name="term",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
