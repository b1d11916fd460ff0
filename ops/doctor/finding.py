"""A line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A subject, what was found about it, and the remedy; without a remedy all is well."""

    subject: str
    found: str
    todo: str = ""

    @property
    def is_well(self) -> bool:
        return not self.todo
