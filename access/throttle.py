"""Rate limits, as token buckets in the memory of each web process."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict

from django.conf import settings

_MOST_BUCKETS = 10_000


class TokenBuckets:
    """A bucket for each kind and name.

    OK to be a little inexact here for the sake of simplicity: each process of each replica counts for itself and grants
    its share of the limit, and the bucket that was not used for longest is forgotten when there are too many.
    """

    def __init__(self) -> None:
        self._empty_at: OrderedDict[tuple[str, str], float] = OrderedDict()

    def take(self, kind: str, name: str, per_minute: int, count: int = 1) -> int:
        """Take tokens; return 0, or the seconds until there are so many.

        `per_minute` tokens may be taken in a minute, also all at once; 0 is no limit.
        """
        if not per_minute:
            return 0
        interval = min(60.0, _interval(per_minute) * count)
        now = time.monotonic()
        empty_at = max(now, self._empty_at.pop((kind, name), now))
        wait = empty_at + interval - now - 60
        is_granted = wait < 1e-6
        self._empty_at[kind, name] = empty_at + interval if is_granted else empty_at
        if len(self._empty_at) > _MOST_BUCKETS:
            self._empty_at.popitem(last=False)
        return 0 if is_granted else max(1, math.ceil(wait))

    def give_back(self, kind: str, name: str, per_minute: int) -> None:
        """Give back a token that was taken and turned out not to count."""
        if per_minute and (kind, name) in self._empty_at:
            self._empty_at[kind, name] -= _interval(per_minute)


def limited_address(address: str) -> str:
    """Return what limits count by: an IPv4 address, or the first of an IPv6 /64 network, which one client may have."""
    try:
        ip = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((int(ip), 64), strict=False).network_address)


def _interval(per_minute: int) -> float:
    """Return the seconds in which this process gets a token."""
    return 60 / math.ceil(per_minute / (settings.WEB_WORKERS * settings.WEB_REPLICAS))
