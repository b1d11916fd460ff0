"""Name one more action of the audit; the table stays as it is."""

from django.db import migrations, models

ACTIONS = [
    ("task_registered", "Registered"),
    ("task_deregistered", "Deregistered"),
    ("token_issued", "Token"),
    ("service_token_issued", "Service Token"),
    ("token_refused", "Token Refused"),
    ("token_revoked", "Token Revoked"),
    ("access_refused", "Access Refused"),
]


class Migration(migrations.Migration):
    dependencies = [("broker", "0004_rename_columns")]
    operations = [migrations.AlterField("tokenaudit", "action", models.TextField(choices=ACTIONS))]
