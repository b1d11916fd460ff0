"""Record the old and the new value of each field that an event changed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0008_notes")]
    operations = [migrations.AddField("taskevent", "changes", models.TextField(blank=True, null=True))]
