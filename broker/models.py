"""Registrations that no task holds, and the audit of tokens, over the tables that existing installations have."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from lobwife.base.timestamps import iso_text


class LegacyRegistration(models.Model):
    """A permission to get tokens under an id that no task has."""

    task_id = models.TextField(primary_key=True)
    repos = models.TextField()
    lobster_type = models.TextField(default="unknown", db_default="unknown")
    registered_at = models.TextField(default=iso_text)
    status = models.TextField(default="active", db_default="active")
    token_count = models.IntegerField(default=0, db_default=0)

    class Meta:
        db_table = "broker_tasks"
        ordering: ClassVar = ["-registered_at"]

    def __str__(self) -> str:
        return self.task_id


class TokenAudit(models.Model):
    """One thing that happened around a token. Rows are only ever added."""

    id = models.AutoField(primary_key=True)
    task_id = models.TextField()
    repos = models.TextField(null=True, blank=True)
    action = models.TextField()
    created_at = models.TextField(default=iso_text)

    class Meta:
        db_table = "token_audit"
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "token audit"
        indexes: ClassVar = [models.Index(fields=["task_id"], name="idx_token_audit_task_id")]

    def __str__(self) -> str:
        return f"{self.action} {self.task_id}"
