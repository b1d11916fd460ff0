"""Read by every Python process of a test that sets the clock: their time of day is ahead by the seconds in a file.

`time.monotonic()` is left alone, as it is when a machine's clock is set.
"""

from __future__ import annotations

import os
import pathlib
import threading
import time
from datetime import UTC, datetime

import time_machine

_FILE = pathlib.Path(os.environ["TEST_CLOCK"])
_LOOK_SECONDS = 0.01


def _follow() -> None:
    """In a thread of its own, which a fork leaves behind."""
    threading.Thread(target=_keep_up, daemon=True).start()


def _keep_up() -> None:
    global _set_by
    while True:
        wanted = float(_FILE.read_text())
        if wanted != _set_by:
            _clock.shift(wanted - _set_by)
            _set_by = wanted
        time.sleep(_LOOK_SECONDS)


_set_by = float(_FILE.read_text())
_clock = time_machine.travel(datetime.fromtimestamp(time.time() + _set_by, UTC)).start()
os.register_at_fork(after_in_child=_follow)
_follow()
