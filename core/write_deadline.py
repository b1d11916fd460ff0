"""The write deadline: until when a transaction may wait for other writers, whatever the database."""

import contextlib
import contextvars
import time
from collections.abc import Iterator

_LEAST_TIMEOUT_SECONDS = 0.2
_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("write deadline", default=None)


@contextlib.contextmanager
def writing_until(moment: float) -> Iterator[None]:
    """Within, no transaction waits for other writers beyond this monotonic time (or a fifth of a second, then)."""
    token = _deadline.set(moment)
    try:
        yield
    finally:
        _deadline.reset(token)


def write_timeout(usual: float) -> float:
    """Return the seconds that a transaction may wait for other writers now."""
    deadline = _deadline.get()
    return usual if deadline is None else min(usual, max(_LEAST_TIMEOUT_SECONDS, deadline - time.monotonic()))
