"""A table for the questions of agents."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0009_taskevent_changes"),
    ]

    operations = [
        migrations.CreateModel(
            name="Question",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("task_id", models.PositiveBigIntegerField(db_index=True)),
                ("text", models.TextField()),
                ("choices", models.JSONField(default=list)),
                ("asked_by", models.TextField()),
                ("asked_at", models.DateTimeField()),
                ("asking_identity", models.TextField()),
                ("answer", models.TextField(null=True)),
                ("answered_by", models.TextField(blank=True, default="")),
                ("answered_at", models.DateTimeField(null=True)),
                ("delivered_at", models.DateTimeField(null=True)),
                ("withdrawn_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("answered_at__isnull", True), ("withdrawn_at__isnull", True)),
                        fields=["id"],
                        name="tasks_questions_open",
                    )
                ],
            },
        ),
    ]
