"""gunicorn's threaded worker, which gives a thread only to a request that has come in whole.

The stock one gives a thread to each connection for up to 5 s of silence, and to one that sent half a head for as long
as it likes, so that a few slow clients stop the service. Here the event loop collects requests; a connection that
takes too long is closed, and when there are too many the one that has waited longest makes room. Who answers is the
business of the relay.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from gunicorn.workers.gthread import ThreadWorker

from core import waits
from core.sqlite import syncing
from lobwife.web.gunicorn_connection import AnswerSocket, Connection, refusal
from lobwife.web.kept_answers import KeptAnswers
from lobwife.web.relay import Relay
from lobwife.web.request_buffer import RequestBuffer, Stage

T = TypeVar("T")
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
_LINGER_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_SHARE_SYNCS = ("/api/v1/", "/api/token")
_YIELD_SECONDS, _MOST_YIELDS = 0.0001, 4
# What slow clients may have sent so far, of all connections of a worker together.
_MOST_BUFFERED = 64 * 2**20
_REFUSALS = {
    Stage.HEAD_TOO_LARGE: ("431 Request Header Fields Too Large", "the head of the request is larger than 32 KiB"),
    Stage.BODY_TOO_LARGE: ("413 Content Too Large", "the body is larger than 1 MiB"),
    Stage.HEAD: ("408 Request Timeout", "the request did not come in within 10 seconds"),
    Stage.BODY: ("408 Request Timeout", "the request did not come in within 30 seconds"),
}


class _NoPool:
    """In place of gunicorn's own pool: the relay has the threads."""

    def shutdown(self, wait: bool = True) -> None:
        """Nothing to shut down."""


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """See the module."""

    alive: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: dict[Connection, None] = {}  # longest first
        self._whole: deque[Connection] = deque()
        self._next_look = 0.0
        self._lingering: dict[Connection, None] = {}
        self._buffered = 0

    # --- the main thread
    def init_process(self) -> None:
        """In the worker's own process; returns when the worker is to end."""
        self._relay = Relay(self._turn, self.cfg.threads)
        self._kept = KeptAnswers(self._relay)
        waits.tell(self._relay.step_aside)
        waits.tell(syncing.redeem)
        super().init_process()

    def get_thread_pool(self) -> _NoPool:
        return _NoPool()

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM: answer what has come in, then end."""
        super().handle_exit(sig, frame)
        self._relay.wake()

    def run(self) -> None:
        """Look after the threads until the worker is to end; what has begun then has `graceful_timeout` seconds."""
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        self._relay.start()
        try:
            next_sign = 0.0
            while self.alive and self._relay.failure is None:
                now = time.monotonic()
                if now >= next_sign:
                    self.notify()
                    next_sign = now + _LOOK_SECONDS
                    if not self.is_parent_alive():
                        break
                self._relay.watch(_LOOK_SECONDS)
            self.alive = False
            deadline = time.monotonic() + self.cfg.graceful_timeout
            while self.nr_conns > 0 and time.monotonic() < deadline and self._relay.failure is None:
                self.notify()
                self._relay.watch(0.05)
        finally:
            self._relay.end()
            self.method_queue.defer(lambda: None)
        if self._relay.failure is not None:
            raise self._relay.failure

    # --- the thread that leads
    def _turn(self) -> None:
        """Take what came in, answer what is whole; the leader does nothing else."""
        self.set_accept_enabled(self.alive and self.nr_conns < self.worker_connections)
        # The leader before may have left requests that are whole: nothing would wake this one for them.
        wait = 0.0 if self._whole or self._kept else _LOOK_SECONDS if self.alive else 0.05
        self.wait_for_and_dispatch_events(timeout=wait)
        is_quiet = not self._whole
        while self._whole and not self._kept.are_due:
            conn = self._whole.popleft()
            if not self._led(partial(self.handle, conn), partial(self._after_answer, conn)):
                return
        if (is_quiet and self._kept) or self._kept.are_due:
            settle = partial(self._kept.settle, self._kept.take())
            if not self._led(settle, self._after_settling):
                return
        now = time.monotonic()
        if now >= self._next_look or not self.alive:
            self._next_look = now + _LOOK_SECONDS
            self.murder_keepalived()

    def _led(self, work: Callable[[], T], after: Callable[[T], None]) -> bool:
        """Do the work, and what comes after it in the thread that leads; False when that is another by now."""
        return self._relay.answer(work, after, lambda result: self.method_queue.defer(after, result))

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """The stock one; where commits are many and their answers small these wait for the disk together."""
        with self._kept.of(conn) if req.path.startswith(_SHARE_SYNCS) else contextlib.nullcontext():
            return super().handle_request(req, conn)

    def _after_answer(self, conn: Connection, again: bool) -> None:
        if not self._kept.add(conn, again):
            self.finish_request(conn, again)

    def _after_settling(self, settled: list[tuple[Connection, bool]]) -> None:
        for conn, again in settled:
            self.finish_request(conn, again)

    # --- connections come
    def accept(self, listener: socket.socket) -> None:
        # All workers wake for a new connection, and it stays where it is taken: the one that has fewer goes first.
        time.sleep(min(self.nr_conns, _MOST_YIELDS) * _YIELD_SECONDS)
        try:
            plain, client = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE):
                raise
            return
        accepted = AnswerSocket(plain.family, plain.type, plain.proto, plain.detach())
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._drop_longest_waiting()
        connection = Connection(self.cfg, accepted, client, listener.getsockname())
        self._wait_for_request(connection, time.monotonic() + HEAD_SECONDS)

    def finish_request(self, conn: Connection, again: bool) -> None:
        """It is answered: the next request of the connection, or its end."""
        if not (again and self.alive):
            self._linger(conn)
            return
        conn.buffer = RequestBuffer(conn.parser.unreader.take_buffered())
        conn.sock.setblocking(False)
        idle = HEAD_SECONDS if conn.buffer.data else self.cfg.keepalive
        self._wait_for_request(conn, time.monotonic() + idle)

    # --- requests come in
    def _wait_for_request(self, conn: Connection, deadline: float) -> None:
        conn.deadline = deadline
        self._buffered += len(conn.buffer.data)
        self._waiting[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_readable, conn))
        if conn.buffer.data:
            self._go_on(conn, conn.buffer.stage())

    def _on_readable(self, conn: Connection, client: Any) -> None:
        if conn not in self._waiting:  # it had to make room a moment ago
            return
        data = conn.received()
        if data is None:
            return
        if not data:
            self._forget(conn)
            self._close(conn)
            return
        if not conn.buffer.data and conn.parser is not None:  # after a pause, the next request begins
            conn.deadline = time.monotonic() + HEAD_SECONDS
        self._buffered += len(data)
        self._go_on(conn, conn.buffer.add(data))

    def _go_on(self, conn: Connection, stage: Stage) -> None:
        if stage is Stage.WHOLE:
            self._forget(conn)
            conn.hand_over()
            self._whole.append(conn)
        elif stage in (Stage.HEAD_TOO_LARGE, Stage.BODY_TOO_LARGE):
            self._refuse(conn, stage)
        elif self._buffered > _MOST_BUFFERED:
            self._drop_longest_waiting()
        elif stage is Stage.BODY and not conn.is_in_body:
            conn.is_in_body = True
            conn.deadline = time.monotonic() + BODY_SECONDS
            if conn.buffer.expects_continue:
                self._send(conn, b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, conn: Connection, stage: Stage) -> None:
        status, sentence = _REFUSALS[stage]
        self._forget(conn)
        self._send(conn, refusal(status, sentence))
        self._linger(conn)

    # --- connections go
    def murder_keepalived(self) -> None:
        """Called once a second: close what took too long; at the end of the worker also what is idle."""
        now = time.monotonic()
        for conn in [each for each in self._waiting if each.deadline < now or not (self.alive or each.buffer.data)]:
            if conn.buffer.data and conn.deadline < now:
                self._refuse(conn, conn.buffer.stage())
            else:
                self._forget(conn)
                self._close(conn)
        for conn in [each for each in self._lingering if each.deadline < now]:
            self._end_linger(conn)

    def _drop_longest_waiting(self) -> None:
        longest = next(iter(self._waiting), None)
        if longest is not None:
            self._forget(longest)
            self._close(longest)

    def _forget(self, conn: Connection) -> None:
        self._buffered -= len(conn.buffer.data)
        self._waiting.pop(conn, None)
        self._unregister(conn)

    def _linger(self, conn: Connection) -> None:
        """Let the client read the answer: closing at once while it sends would take it back. Blocks nobody."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._discard, conn))
        except (OSError, ValueError, KeyError):
            self._close(conn)
            return
        conn.deadline = time.monotonic() + _LINGER_SECONDS
        self._lingering[conn] = None

    def _discard(self, conn: Connection, client: Any) -> None:
        if conn in self._lingering and conn.received() == b"":
            self._end_linger(conn)

    def _end_linger(self, conn: Connection) -> None:
        self._lingering.pop(conn, None)
        self._unregister(conn)
        self._close(conn)

    def _unregister(self, conn: Connection) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)

    def _close(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close()

    def _send(self, conn: Connection, data: bytes) -> None:
        with contextlib.suppress(OSError):
            conn.sock.send(data)
