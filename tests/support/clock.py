"""The clock of an installation's processes, set by a test while they live."""

from __future__ import annotations

import os
import pathlib
import time
from datetime import UTC, datetime, timedelta

from tests.support.installation import ROOT, Installation


class Clock:
    """Goes on by itself from where it was set."""

    def __init__(self, installation: Installation) -> None:
        """Before the processes are started."""
        self._file: pathlib.Path = installation.folder / "clock"
        self._set_by = 0.0
        self._store()
        installation.environment["TEST_CLOCK"] = str(self._file)
        installation.environment["PYTHONPATH"] = str(ROOT / "tests" / "support" / "set_clock")

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._set_by, UTC)

    def set(self, moment: datetime) -> None:
        """Set it, forward or back."""
        self._set_by += (moment - self.now()) / timedelta(seconds=1)
        self._store()

    def _store(self) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(str(self._set_by))
        os.replace(part, self._file)
