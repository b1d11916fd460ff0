"""Rate limits that all processes share: a small file of slots, changed under a lock, never flushed to disk.

A row for each call would put a durable write, a millisecond and its place in the queue of writers, in front of every
token; this costs some ten microseconds. What a power cut loses are a few counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import math
import os
import pathlib
import struct
import threading
import time
from collections.abc import Iterator

log = logging.getLogger(__name__)

_SLOT = struct.Struct("<16sd")  # a key's digest, and the time at which its bucket is empty
_SLOTS_OF_A_GROUP = 8
_GROUPS = 1024
_GROUP_BYTES = _SLOT.size * _SLOTS_OF_A_GROUP


class RateLimits:
    """Leaky buckets: of each key one number is kept, the time at which its bucket will be empty.

    A key has its place in one group of slots, chosen by a keyed hash, so that nobody can aim at another's slot. In a
    full group the bucket that is empty soonest makes room.
    """

    def __init__(self, path: pathlib.Path, secret: str) -> None:
        self._path = path
        self._secret = hashlib.sha256(secret.encode()).digest()
        self._threads = threading.Lock()
        self._descriptor: int | None = None
        self._own: int | None = None

    def take(self, kind: str, name: str, per_minute: int) -> int:
        """Count one; 0, or the seconds after which the next is allowed. What is refused does not count.

        `per_minute` may come in a minute, also at once; 0 is no limit. While the file can't be written, on a full disk
        say, each process counts for itself: a call is worth more than an exact count, and guessing stays slow.
        """
        if not per_minute:
            return 0
        digest = hashlib.blake2b(f"{kind}\0{name}".encode(), digest_size=16, key=self._secret).digest()
        with self._threads:  # threads share the descriptor, and so the lock on the file
            try:
                with self._locked() as descriptor:
                    return _take(descriptor, digest, 60 / per_minute)
            except OSError as error:
                if self._own is None:
                    log.warning("%s can't be used: each process counts for itself: %s", self._path, error.strerror)
                    self._own = os.memfd_create("rate-limits", os.MFD_CLOEXEC)
            return _take(self._own, digest, 60 / per_minute)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield self._descriptor
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def _take(descriptor: int, digest: bytes, interval: float) -> int:
    now = time.time()
    group = int.from_bytes(digest[:4], "big") % _GROUPS * _GROUP_BYTES
    slots = _read(descriptor, group)
    position = next((place for place, slot in enumerate(slots) if slot[0] == digest), None)
    empty_at = slots[position][1] if position is not None else 0.0
    # A time further ahead than a full bucket is from a clock that was set back since.
    if not now < empty_at <= now + 60 + interval:
        empty_at = now
    wait = empty_at + interval - now - 60
    if wait > 1e-6:
        return max(1, math.ceil(wait))
    if position is None:
        position = min(range(_SLOTS_OF_A_GROUP), key=lambda place: slots[place][1])
    os.pwrite(descriptor, _SLOT.pack(digest, empty_at + interval), group + position * _SLOT.size)
    return 0


def _read(descriptor: int, group: int) -> list[tuple[bytes, float]]:
    data = os.pread(descriptor, _GROUP_BYTES, group).ljust(_GROUP_BYTES, b"\0")
    return [_SLOT.unpack_from(data, place * _SLOT.size) for place in range(_SLOTS_OF_A_GROUP)]
