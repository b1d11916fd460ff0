import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0014_nodes"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="runs_on",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="The label of the runners that execute it. Empty: the daemons do.",
                validators=[
                    django.core.validators.RegexValidator(
                        "\\A[a-z0-9][a-z0-9_.-]{0,49}\\Z",
                        "Use up to 50 lower-case letters, digits, dots, dashes, underscores.",
                    )
                ],
            ),
        ),
        migrations.AddField(
            model_name="jobrun",
            name="node",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="Who executes it, as HOST/PID, where there are several.",
            ),
        ),
        migrations.AddField(
            model_name="jobrun",
            name="node_row",
            field=models.BigIntegerField(blank=True, editable=False, null=True),
        ),
        migrations.CreateModel(
            name="OutputPiece",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("offset", models.BigIntegerField()),
                ("end", models.BigIntegerField()),
                ("data", models.BinaryField()),
                (
                    "times",
                    models.JSONField(
                        default=list, help_text="Where the output of each second begins, with the second."
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="pieces", to="jobs.jobrun"
                    ),
                ),
            ],
            options={
                "ordering": ["run", "offset"],
                "constraints": [models.UniqueConstraint(fields=("run", "offset"), name="one_piece_per_offset")],
            },
        ),
    ]
