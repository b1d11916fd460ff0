"""A thread that is about to wait says so, for whoever could use the time.

In web the thread that waits for requests also answers them (lobwife.web.relay): another goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

_told: list[Callable[[], None]] = []


def tell(call: Callable[[], None]) -> None:
    """Have `call` called, in the thread that is about to wait; for the life of the process."""
    _told.append(call)


def about_to_wait() -> None:
    """For a disk, the network, another process: what takes a millisecond or more."""
    for call in _told:
        call()
