from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("vaultsync", "0001_initial")]

    operations = [migrations.RemoveField(model_name="noterecord", name="intended")]
