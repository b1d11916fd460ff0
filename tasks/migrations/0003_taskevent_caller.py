"""Record the identified caller of an event, beside the actor that a body claims."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0002_registration_indexes")]
    operations = [migrations.AddField("taskevent", "caller", models.TextField(blank=True, null=True))]
