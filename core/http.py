"""HTTP connections on which a deadline holds for the whole of a call.

httpcore's time-outs are for one read each: an answer of which a byte comes now and then would never end.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import httpcore2

_deadline: ContextVar[float] = ContextVar("deadline of a call")


@contextlib.contextmanager
def deadline(moment: float) -> Iterator[None]:
    """Within, nothing is connected, read or written beyond this monotonic time."""
    token = _deadline.set(moment)
    try:
        yield
    finally:
        _deadline.reset(token)


class Backend(httpcore2.SyncBackend):
    """Connects within `deadline`; to a given address, if there is one, whatever the name of the host means by then."""

    def __init__(self, address: str | None = None) -> None:
        super().__init__()
        self._address = address

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        left = _time_left(httpcore2.ConnectTimeout)
        return _Stream(super().connect_tcp(self._address or host, port, left, local_address, socket_options))


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _time_left(httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _time_left(httpcore2.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _time_left(httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))


def _time_left(error: type[httpcore2.TimeoutException]) -> float:
    """Return the seconds until the deadline; raises `error` when there are none."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise error("the time of the call is over")
    return left
