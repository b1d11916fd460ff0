"""Tokens that are out, claims on minting, what is known about GitHub; more columns for the audit.

Old tables only get nullable columns (plain ADD COLUMN) and indexes: the older service can still run on the file.
"""

from django.db import migrations, models

# A token is asked for by the task's slug, name or assignee; the summary counts registrations and tokens.
LOOKUPS = {
    "broker_task_slug": "tasks(slug) WHERE slug IS NOT NULL",
    "broker_task_name": "tasks(name)",
    "broker_task_assignee": "tasks(assigned_to) WHERE assigned_to IS NOT NULL",
}


class Migration(migrations.Migration):
    dependencies = [
        ("broker", "0001_initial"),
        ("tasks", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="AllowedService",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField(unique=True)),
                ("note", models.TextField(blank=True, default="")),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="GitHubState",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("installation_id", models.TextField(blank=True, default="", help_text="Whose owner is known.")),
                ("owner", models.TextField(blank=True, default="")),
                ("last_mint_at", models.DateTimeField(null=True)),
                ("rate_left", models.IntegerField(null=True)),
                ("rate_reset_at", models.DateTimeField(null=True)),
                ("blocked_until", models.DateTimeField(help_text="GitHub said to wait until then.", null=True)),
                ("last_error", models.TextField(blank=True, default="")),
                ("last_error_at", models.DateTimeField(null=True)),
                ("clock_skew", models.IntegerField(default=0, help_text="Seconds that GitHub's clock is ahead.")),
                ("cursor", models.BigIntegerField(help_text="The last task event that was dealt with.", null=True)),
            ],
            options={
                "verbose_name": "GitHub App",
                "verbose_name_plural": "GitHub App",
            },
        ),
        migrations.CreateModel(
            name="Grant",
            fields=[
                ("subject", models.TextField(primary_key=True, serialize=False)),
                ("generation", models.IntegerField(default=0)),
                ("lobster_type", models.TextField(default="unknown")),
            ],
        ),
        migrations.CreateModel(
            name="IssuedToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("subject", models.TextField()),
                ("shown_id", models.TextField()),
                ("generation", models.IntegerField()),
                ("scope_digest", models.TextField()),
                ("sealed", models.TextField()),
                ("sha256", models.TextField()),
                ("repos", models.TextField()),
                ("permissions", models.TextField()),
                ("minted_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField(help_text="By GitHub's clock.")),
                ("refresh_at", models.DateTimeField(help_text="By our clock: from then on a new one is made.")),
                ("event_id", models.BigIntegerField()),
                (
                    "state",
                    models.TextField(
                        choices=[
                            ("live", "Live"),
                            ("ended", "ended, to be revoked"),
                            ("revoked", "Revoked"),
                            ("left", "left to expire"),
                        ],
                        default="live",
                    ),
                ),
                ("reason", models.TextField(blank=True, default="")),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("retry_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Mint",
            fields=[
                ("scope_digest", models.TextField(primary_key=True, serialize=False)),
                ("holder", models.TextField()),
                ("lease_until", models.DateTimeField()),
                ("failed_at", models.DateTimeField(null=True)),
                ("failure", models.TextField(blank=True, default="")),
                ("failure_status", models.PositiveSmallIntegerField(default=503)),
                ("retry_after", models.PositiveIntegerField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="TaskRegistration",
            fields=[],
            options={
                "ordering": ["-id"],
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("tasks.task",),
        ),
        migrations.AddField(
            model_name="tokenaudit",
            name="address",
            field=models.TextField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="tokenaudit",
            name="expires_at",
            field=models.TextField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="tokenaudit",
            name="identity",
            field=models.TextField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="tokenaudit",
            name="outcome",
            field=models.TextField(
                blank=True,
                choices=[
                    ("done", "Done"),
                    ("issued", "Issued"),
                    ("cached", "from cache"),
                    ("refused", "Refused"),
                    ("failed", "Failed"),
                    ("revoked", "Revoked"),
                ],
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="tokenaudit",
            name="permissions",
            field=models.TextField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="tokenaudit",
            name="reason",
            field=models.TextField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="tokenaudit",
            name="task_number",
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="tokenaudit",
            name="token_sha256",
            field=models.TextField(
                blank=True, help_text="base64(SHA-256(token)), as in GitHub's audit log.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="tokenaudit",
            name="action",
            field=models.TextField(
                choices=[
                    ("task_registered", "Registered"),
                    ("task_deregistered", "Deregistered"),
                    ("token_issued", "Token"),
                    ("service_token_issued", "Service Token"),
                    ("token_refused", "Token Refused"),
                    ("token_revoked", "Token Revoked"),
                ]
            ),
        ),
        migrations.AlterField(
            model_name="tokenaudit",
            name="task_id",
            field=models.TextField(help_text="As the caller named it."),
        ),
        migrations.AddIndex(
            model_name="tokenaudit",
            index=models.Index(
                condition=models.Q(("task_number__isnull", False)), fields=["task_number"], name="token_audit_of_task"
            ),
        ),
        migrations.AddIndex(
            model_name="issuedtoken",
            index=models.Index(fields=["subject", "state"], name="tokens_of_subject"),
        ),
        migrations.AddIndex(
            model_name="issuedtoken",
            index=models.Index(condition=models.Q(("state", "ended")), fields=["retry_at"], name="tokens_to_revoke"),
        ),
        migrations.AddIndex(
            model_name="issuedtoken",
            index=models.Index(fields=["refresh_at"], name="tokens_by_age"),
        ),
        *[
            migrations.RunSQL(f"CREATE INDEX IF NOT EXISTS {name} ON {on}", f"DROP INDEX IF EXISTS {name}")
            for name, on in LOOKUPS.items()
        ],
    ]
