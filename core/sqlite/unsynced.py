"""Transactions that need not survive a power cut, and so don't wait for the disk: claims, signs of life."""

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction


@contextlib.contextmanager
def unsynced_atomic() -> Iterator[None]:
    """A transaction of its own, never within another; atomic and ordered like any, durable with the next that is."""
    own: Any = connection
    with transaction.atomic(durable=True):
        own.leave_unsynced()
        yield
