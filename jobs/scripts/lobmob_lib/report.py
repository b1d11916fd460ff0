"""A script's output: lines for people while it works, and one last line that sums up."""

from __future__ import annotations

import sys


class Report:
    """Counts what was done, notes what was skipped, remembers whether something failed."""

    def __init__(self, *, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self.failed = False
        self._counts: dict[str, int] = {}
        self._said: set[str] = set()

    def did(self, what: str, line: str) -> None:
        """Something was done, or would be."""
        self._counts[what] = self._counts.get(what, 0) + 1
        print(f"{'would: ' if self.dry_run else ''}{line}")

    def note(self, line: str) -> None:
        """Something to know, said once a run."""
        if line not in self._said:
            self._said.add(line)
            print(line)

    def fail(self, line: str) -> None:
        """Something went wrong; the script goes on and ends with 1."""
        self.failed = True
        if line not in self._said:
            self._said.add(line)
            print(line, file=sys.stderr)

    def last_line(self, name: str) -> int:
        """Sum up; returns the exit code."""
        done = ", ".join(f"{count} {what}" for what, count in self._counts.items()) or "nothing to do"
        print(f"{name}: {done}{' (dry run)' if self.dry_run else ''}{'; with failures' if self.failed else ''}")
        return 1 if self.failed else 0
