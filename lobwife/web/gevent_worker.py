"""gunicorn's gevent worker, with bounds for what one client may take of time and memory.

A greenlet waits for each client. gunicorn's `keepalive` bounds the wait for the head of a request. The body is read
here, before the application is called, so that a slow one holds nothing else.
"""

from __future__ import annotations

import errno
import io
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

import gevent
from gevent.lock import BoundedSemaphore
from gevent.socket import SHUT_RD, socket
from gunicorn import util
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize, ParseException
from gunicorn.workers.ggevent import GeventWorker

BODY_SECONDS = 30.0
BODY_BYTES = 2**20
_PIECE_BYTES, _LARGE_BYTES, _LARGE_BODIES = 2**13, 2**16, 64
_ANSWER_SECONDS, _ANSWER_BYTES_PER_SECOND = 10.0, 8192
_IDLE_SECONDS_AT_A_STOP = 1.0
_HEAD, _END_OF_HEAD = b"HTTP/1.1 ", b"\r\n\r\n"


class ClientSocket(socket):  # type: ignore[misc]  # the package has no types that mypy finds
    """A connection that counts the bytes of a request, and the seconds that sending the answer may still take.

    gunicorn sends head and body of an answer one after the other; here they go in one packet.
    """

    __slots__ = ("head", "received", "seconds")

    def begin_request(self) -> None:
        self.head, self.received, self.seconds = b"", 0, _ANSWER_SECONDS

    def recv(self, *arguments: Any) -> bytes:
        if self.received > _PIECE_BYTES:
            gevent.idle()  # to go on with what is there already would keep the others waiting
        data: bytes = super().recv(*arguments)
        self.received += len(data)
        if self.received > 2 * BODY_BYTES:
            raise ConnectionResetError(errno.ECONNRESET, "the chunks of the body are too small")
        return data

    def sendall(self, data: bytes, flags: int = 0) -> None:
        if data.endswith(_END_OF_HEAD) and data.startswith(_HEAD) and not self.head:
            self.head = data
            return
        if self.head:
            data, self.head = self.head + data, b""
        for start in range(0, len(data), _LARGE_BYTES):
            piece, began = data[start : start + _LARGE_BYTES], time.monotonic()
            self.settimeout(self.seconds + len(piece) / _ANSWER_BYTES_PER_SECOND)
            try:
                super().sendall(piece, flags)
            except TimeoutError:
                raise BrokenPipeError(errno.EPIPE, "the client reads the answer too slowly") from None
            self.seconds = self.gettimeout() - (time.monotonic() - began)
            self.settimeout(None)

    def flush(self) -> None:
        """Send a head that no body followed."""
        if self.head:
            self.sendall(b"")


class BoundedWorker(GeventWorker):  # type: ignore[misc]  # the package has no types
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._clients: set[ClientSocket] = set()
        self._large_bodies = BoundedSemaphore(_LARGE_BODIES)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        bounded = ClientSocket(client.family, client.type, client.proto, fileno=client.detach())
        bounded.begin_request()
        self._clients.add(bounded)
        try:
            super().handle(listener, bounded, addr)
        finally:
            self._clients.remove(bounded)

    def handle_request(self, listener_name: Any, req: Any, sock: ClientSocket, addr: Any) -> None:
        try:
            if getattr(req.body.reader, "length", None) != 0:
                self._read_body(req, sock)
            super().handle_request(listener_name, req, sock, addr)
            sock.flush()
            sock.begin_request()
        finally:
            with suppress(OSError):  # of an answer that ends the connection
                sock.flush()
            if req.must_close:
                util.close_graceful(sock, max_drain=BODY_BYTES)  # else unread input would undo the answer

    def _read_body(self, req: Any, sock: ClientSocket) -> None:
        """Read the body; one that is too large is left to the application to refuse, by its length."""
        length = getattr(req.body.reader, "length", None)  # None: it comes in chunks
        data = b""
        if length is None or length <= BODY_BYTES:
            if req._expected_100_continue:
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                sock.flush()
            try:
                with gevent.Timeout(BODY_SECONDS):
                    data = req.body.read(_LARGE_BYTES)
                    if len(data) == _LARGE_BYTES:  # who only says that much is coming takes no place
                        with self._large_bodies:
                            data += req.body.read(BODY_BYTES + 1 - _LARGE_BYTES)
            except gevent.Timeout:
                _refuse(req, sock, "408 Request Timeout", "the body did not come in within 30 seconds")
            except (ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize, ParseException):
                _refuse(req, sock, "400 Bad Request", "the chunks of the body are malformed")
            if len(data) < (length or 0):
                raise StopIteration  # the client is gone
        if length is None:
            req.headers = [header for header in req.headers if header[0] != "TRANSFER-ENCODING"]
            req.headers.append(("CONTENT-LENGTH", str(len(data))))
        if (length or len(data)) > BODY_BYTES:
            req.force_close()
        req.body, req._expected_100_continue = io.BytesIO(data), False

    def handle_exit(self, sig: int, frame: object) -> None:
        """Stop: answer what was accepted, who waits at once; wait for idle clients no longer than a second."""
        super().handle_exit(sig, frame)
        watching = sys.modules.get("core.database.watcher")  # it needs the application, which the worker loads later
        if watching is not None:
            gevent.spawn(lambda: watching.watcher().close())
        gevent.spawn_later(_IDLE_SECONDS_AT_A_STOP, self._end_idle_connections)

    def _end_idle_connections(self) -> None:
        for client in self._clients:
            if not client.received:
                with suppress(OSError):
                    client.shutdown(SHUT_RD)


def _refuse(req: Any, sock: ClientSocket, status: str, sentence: str) -> NoReturn:
    """Answer without the application and end the connection."""
    req.force_close()
    body = f'{{"error":"{sentence}"}}'
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\n"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    raise StopIteration
