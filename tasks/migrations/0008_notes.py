"""A table for texts that notes are to have."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0007_costs"),
    ]

    operations = [
        migrations.CreateModel(
            name="TaskNote",
            fields=[
                ("task_id", models.PositiveBigIntegerField(primary_key=True, serialize=False)),
                ("text", models.TextField()),
                ("replaces", models.JSONField(default=list)),
                ("version", models.PositiveIntegerField(default=1)),
                ("written_at", models.DateTimeField()),
                ("written_by", models.TextField(blank=True, default="")),
                ("committed_at", models.DateTimeField(null=True)),
                (
                    "refusal",
                    models.TextField(blank=True, default="", help_text="Why it was not written, in a sentence."),
                ),
            ],
        ),
    ]
