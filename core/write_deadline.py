"""A call that promised an answer in time: how long its transactions may wait for other writers."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator

_until: contextvars.ContextVar[float | None] = contextvars.ContextVar("patience", default=None)
_LEAST_SECONDS = 0.2


@contextlib.contextmanager
def writing_until(moment: float) -> Iterator[None]:
    """Within, no transaction waits for other writers beyond this monotonic time (or a fifth of a second, then)."""
    token = _until.set(moment)
    try:
        yield
    finally:
        _until.reset(token)


def write_timeout(usual: float) -> float:
    """The seconds that a transaction may wait now."""
    until = _until.get()
    return usual if until is None else min(usual, max(_LEAST_SECONDS, until - time.monotonic()))
