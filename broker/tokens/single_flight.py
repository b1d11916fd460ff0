"""Single flight: of all calls in all processes that need the same new token, one asks GitHub and the others wait."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import close_old_connections, transaction

from broker import statements
from broker.models import Mint
from core.errors import LobwifeError, Unavailable, Upstream
from core.timestamps import utc_now

# Every call is answered within 8 seconds: what is left after GitHub's share is for the database.
CALL_SECONDS = 7.0
DATABASE_SECONDS = 6.0
GITHUB_SECONDS = 5.0
# A holder that was killed loses its claim then; a living one is done before.
LEASE = timedelta(seconds=GITHUB_SECONDS + 1)
_STALLED_SECONDS = 0.7
_POLL_SECONDS = 0.015
_FAILURE_KEPT = timedelta(hours=1)


class Deadline:
    """How long one call may take, counted from its start."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.started_at = utc_now()

    @property
    def left(self) -> float:
        return self.started + CALL_SECONDS - time.monotonic()

    @property
    def database_until(self) -> float:
        """The monotonic time until which other writers may be waited for."""
        return self.started + DATABASE_SECONDS

    @property
    def github_until(self) -> float:
        """The monotonic time until which GitHub may be waited for."""
        return self.started + GITHUB_SECONDS


class Slots:
    """How many calls of this process wait for GitHub.

    Once a call has taken long, those beyond the limit are refused at once instead of waiting behind it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._since: list[float] = []

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """A place, within a moment; raises Unavailable."""
        with self._changed:
            while len(self._since) >= self._limit:
                patience = self._since[0] + _STALLED_SECONDS - time.monotonic()
                if patience <= 0:
                    raise Unavailable("GitHub is slow and other calls wait for it already", retry_after=2)
                self._changed.wait(patience)
            mine = time.monotonic()
            self._since.append(mine)
        try:
            yield
        finally:
            with self._changed:
                self._since.remove(mine)
                self._changed.notify()


def slots() -> Slots:
    """This process's; a forked child has its own."""
    return _slots_of_process(os.getpid(), settings.BROKER_GITHUB_CALLS)


@functools.lru_cache(maxsize=2)
def _slots_of_process(process: int, limit: int) -> Slots:
    return Slots(limit)


def claim(digest: str) -> str | None:
    """The name under which this call holds the claim on a scope; None while another call holds it."""
    holder, now = uuid.uuid4().hex, utc_now()
    with transaction.atomic():
        claimed = statements.claim_mint(digest=digest, holder=holder, now=now, lease_until=now + LEASE)
    return holder if claimed else None


def release(digest: str, holder: str) -> None:
    """Give the claim up after success; within the transaction that stores the token."""
    statements.release_mint(digest=digest, holder=holder)


def release_failed(digest: str, holder: str, error: LobwifeError) -> None:
    """Give the claim up and leave the reason to those who wait."""
    now = utc_now()
    with transaction.atomic():
        Mint.objects.filter(pk=digest, holder=holder).update(
            lease_until=now,
            failed_at=now,
            failure=str(error),
            failure_status=error.status,
            retry_after=error.retry_after,
        )


def wait_for(digest: str, deadline: Deadline) -> None:
    """Return when the claim is free; raises the holder's failure, or Unavailable at the deadline."""
    while True:
        mint = Mint.objects.filter(pk=digest).first()
        if mint is None or (mint.failed_at is None and mint.lease_until <= utc_now()):
            return
        if mint.failed_at is not None:
            if mint.failed_at < deadline.started_at:
                return
            raise _as_error(mint)
        if deadline.left < 1:
            raise Unavailable("GitHub is slow to make a token for this", retry_after=2)
        close_old_connections()  # others use it meanwhile
        time.sleep(_POLL_SECONDS)


def forget_failures() -> None:
    """Remove claims that nobody holds any more."""
    with transaction.atomic():
        Mint.objects.filter(lease_until__lt=utc_now() - _FAILURE_KEPT).delete()


def _as_error(mint: Mint) -> LobwifeError:
    kind = Upstream if mint.failure_status == Upstream.status else Unavailable
    error = kind(mint.failure, retry_after=mint.retry_after)
    error.status = mint.failure_status
    return error
