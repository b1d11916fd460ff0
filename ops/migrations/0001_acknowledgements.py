from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Acknowledgement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.TextField(unique=True)),
                ("since", models.DateTimeField(help_text="When the problem began that was acknowledged.", null=True)),
                ("until", models.DateTimeField(help_text="When a snoozed one is counted again.", null=True)),
                ("by", models.TextField()),
                ("at", models.DateTimeField()),
            ],
            options={"ordering": ["-at"]},
        ),
    ]
