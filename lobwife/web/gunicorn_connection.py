"""The connections of the worker: sockets that wait for a bounded time, and what has come in on them so far."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import orjson
from gunicorn import http
from gunicorn.workers.gthread import TConn

from lobwife.web.request_buffer import RequestBuffer

# A thread reads nothing that is not there already; this is how long it waits for a client that takes no answer.
ANSWER_SECONDS = 10.0
_READ_BYTES = 64 * 1024
_MOST_KEPT = 64 * 1024  # there is room for it in the buffer of a client that reads its answers


def refusal(status: str, sentence: str, *headers: str) -> bytes:
    """An answer that needs no application, after which the connection is closed."""
    body = orjson.dumps({"error": sentence})
    lines = (
        f"HTTP/1.1 {status}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    )
    return "\r\n".join((*lines, "", "")).encode() + body


class AnswerSocket(socket.socket):
    """Blocks for a bounded time; a client that is too slow is as good as gone."""

    _kept: list[bytes] | None = None
    _make_sure: Callable[[], None]

    def keep(self, make_sure: Callable[[], None]) -> None:
        """Send nothing before `let_go()`; what is too much to be kept goes out after a call of `make_sure`."""
        if self._kept is None:
            self._kept, self._make_sure = [], make_sure

    @property
    def keeps(self) -> bool:
        return self._kept is not None

    def let_go(self, instead: bytes = b"") -> bool:
        """Send what was kept, or something instead; False when the client is gone or takes it too slowly."""
        data, self._kept = instead or b"".join(self._kept or ()), None
        self.setblocking(False)
        try:
            return self.send(data) == len(data)
        except OSError:
            return False

    def setblocking(self, flag: bool) -> None:
        self.settimeout(ANSWER_SECONDS if flag else 0.0)

    def recv(self, *arguments: Any) -> bytes:
        try:
            return super().recv(*arguments)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "the client sends too slowly") from None

    def sendall(self, data: Any, flags: int = 0) -> None:
        if self._kept is not None:
            self._kept.append(data)
            if sum(map(len, self._kept)) <= _MOST_KEPT:
                return
            self._make_sure()
            data, self._kept = b"".join(self._kept), None
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client takes the answer too slowly") from None


class Connection(TConn):  # type: ignore[misc]
    """A connection between requests: what has come in, and until when the rest must."""

    parser: Any
    sock: AnswerSocket

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.buffer = RequestBuffer()
        self.deadline = 0.0
        self.is_in_body = False

    def received(self) -> bytes | None:
        """What came in; empty when the client is gone, None when nothing is there after all."""
        try:
            return self.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def hand_over(self) -> None:
        """Give the parser what was collected, as if it had just read it."""
        if self.parser is None:
            self.parser = http.get_parser(self.cfg, self.sock, self.client)
        self.parser.unreader.unread(bytes(self.buffer.data))
        self.buffer, self.is_in_body = RequestBuffer(), False
        self.initialized = self.data_ready = True
