"""Drop the claims on minting: each process keeps its own in memory."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("broker", "0002_tokens")]
    operations = [migrations.DeleteModel(name="Mint")]
