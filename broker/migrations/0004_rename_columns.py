"""Call columns by what they hold: the key of a registration or service, the id asked for, the encrypted token."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("broker", "0003_delete_mint")]
    operations = [
        migrations.RemoveIndex("issuedtoken", "tokens_of_subject"),
        migrations.RenameField("grant", "subject", "key"),
        migrations.RenameField("issuedtoken", "subject", "key"),
        migrations.RenameField("issuedtoken", "shown_id", "requested_id"),
        migrations.RenameField("issuedtoken", "sealed", "encrypted"),
        migrations.AddIndex("issuedtoken", models.Index(fields=["key", "state"], name="tokens_by_key")),
    ]
