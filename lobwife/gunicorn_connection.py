"""The connections of the worker: sockets that wait for a bounded time, and what has come in on them so far."""

from __future__ import annotations

import errno
import socket
from typing import Any

from gunicorn import http
from gunicorn.workers.gthread import TConn

from lobwife.request_buffer import RequestBuffer

# A thread reads nothing that is not there already; this is how long it waits for a client that takes no answer.
ANSWER_SECONDS = 10.0
_READ_BYTES = 64 * 1024


class AnswerSocket(socket.socket):
    """Blocks for a bounded time; a client that is too slow is as good as gone."""

    def setblocking(self, flag: bool) -> None:
        self.settimeout(ANSWER_SECONDS if flag else 0.0)

    def recv(self, *arguments: Any) -> bytes:
        try:
            return super().recv(*arguments)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "the client sends too slowly") from None

    def sendall(self, *arguments: Any) -> None:
        try:
            super().sendall(*arguments)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client takes the answer too slowly") from None


class Connection(TConn):  # type: ignore[misc]
    """A connection between requests: what has come in, and until when the rest must."""

    parser: Any
    sock: socket.socket

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
