"""What operators decided about the problems on the overview."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Acknowledgement(models.Model):
    """A problem that somebody has seen: not counted until it begins anew, or until a time."""

    key = models.TextField(unique=True)
    since = models.DateTimeField(null=True, help_text="When the problem began that was acknowledged.")
    until = models.DateTimeField(null=True, help_text="When a snoozed one is counted again.")
    by = models.TextField()
    at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-at"]

    def __str__(self) -> str:
        return self.key
