"""Tables for what tasks cost, and for budgets."""

from decimal import Decimal

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0006_results"),
    ]

    operations = [
        migrations.CreateModel(
            name="Budget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.TextField(
                        choices=[
                            ("task", "A task"),
                            ("type", "A type"),
                            ("repo", "A repository"),
                            ("all", "All tasks together"),
                        ],
                        verbose_name="for",
                    ),
                ),
                ("name", models.TextField(blank=True, default="")),
                ("period", models.TextField(choices=[("day", "a day"), ("month", "a month"), ("total", "in all")])),
                ("limit_usd", models.DecimalField(decimal_places=6, max_digits=20, verbose_name="limit in US dollars")),
            ],
            options={
                "ordering": ["scope", "name", "period"],
                "constraints": [models.UniqueConstraint(fields=("scope", "name", "period"), name="one_budget")],
            },
        ),
        migrations.CreateModel(
            name="Cost",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cache_read_tokens", models.PositiveBigIntegerField(default=0)),
                ("cache_write_tokens", models.PositiveBigIntegerField(default=0)),
                ("task_id", models.PositiveBigIntegerField()),
                ("type", models.TextField()),
                ("repo", models.TextField(blank=True, default="", verbose_name="repository")),
                ("model", models.TextField()),
                ("cost_usd", models.DecimalField(decimal_places=6, max_digits=20, null=True)),
                (
                    "price",
                    models.TextField(
                        choices=[
                            ("caller", "The caller"),
                            ("pending", "Not looked up yet"),
                            ("list", "The price list"),
                            ("unknown", "Nowhere: the list has no such model"),
                        ],
                        verbose_name="price from",
                    ),
                ),
                (
                    "source",
                    models.TextField(
                        help_text="The caller's name for the report, so that a repeat counts once.", null=True
                    ),
                ),
                ("recorded_at", models.DateTimeField()),
                ("recorded_by", models.TextField(blank=True, default="")),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["task_id", "id"], name="costs_of_task"),
                    models.Index(condition=models.Q(("price", "pending")), fields=["id"], name="costs_to_price"),
                ],
                "constraints": [models.UniqueConstraint(fields=("task_id", "source"), name="cost_counts_once")],
            },
        ),
        migrations.CreateModel(
            name="DailySpend",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cache_read_tokens", models.PositiveBigIntegerField(default=0)),
                ("cache_write_tokens", models.PositiveBigIntegerField(default=0)),
                ("day", models.DateField()),
                ("type", models.TextField()),
                ("repo", models.TextField(blank=True, default="")),
                ("model", models.TextField()),
                ("reports", models.PositiveBigIntegerField(default=0)),
                (
                    "unpriced",
                    models.PositiveBigIntegerField(default=0, help_text="How many of the reports have no price."),
                ),
                ("cost_usd", models.DecimalField(decimal_places=6, default=Decimal("0"), max_digits=20)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("day", "type", "repo", "model"), name="one_sum_per_day")
                ],
            },
        ),
        migrations.CreateModel(
            name="SpentBudget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.TextField(
                        blank=True, help_text="The task, type or repository, in lower case; empty for all tasks."
                    ),
                ),
                ("since", models.DateField(help_text="The first day of the period.")),
                ("until", models.DateField(help_text="The first day after it.", null=True)),
                ("spent_usd", models.DecimalField(decimal_places=6, max_digits=20)),
                ("spent_at", models.DateTimeField()),
                ("alerted_at", models.DateTimeField(null=True)),
                (
                    "budget",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="spent", to="tasks.budget"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "indexes": [models.Index(fields=["name"], name="spent_budgets_of")],
                "constraints": [models.UniqueConstraint(fields=("budget", "name", "since"), name="budget_spent_once")],
            },
        ),
    ]
