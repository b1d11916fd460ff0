"""Notices that the machine's clock was set: it then moved otherwise than the time that passed."""

from __future__ import annotations

import time

_NOTICED_SECONDS = 1.0  # less than that between two looks is what time servers do all day


class Clock:
    """Looked at again and again, by one thread."""

    def __init__(self) -> None:
        self._ahead = _ahead()

    def was_set_by(self) -> float:
        """By how many seconds the clock was set since the last look, back when negative; 0 when it was not."""
        before, self._ahead = self._ahead, _ahead()
        moved = self._ahead - before
        return moved if abs(moved) >= _NOTICED_SECONDS else 0.0


def _ahead() -> float:
    """Asked again when the machine had other things to do between the two clocks: that would look like one set back."""
    while True:
        passed = time.monotonic()
        shown = time.time()
        if time.monotonic() - passed < _NOTICED_SECONDS / 4:
            return shown - passed
