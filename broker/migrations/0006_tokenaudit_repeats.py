"""Count tokens that one caller is served again and again, instead of adding a row for each."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("broker", "0005_access_refused")]
    operations = [
        migrations.AddField(
            "tokenaudit",
            "repeats",
            models.IntegerField(
                blank=True,
                help_text="How often the caller was served the same token again within this minute.",
                null=True,
            ),
        ),
    ]
