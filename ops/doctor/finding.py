"""A line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do about it; nothing to do is well."""

    subject: str
    found: str
    todo: str = ""

    @property
    def is_well(self) -> bool:
        return not self.todo
