"""An HTTP server in lobwife's place that answers what a test says: one script of answers for each path."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

HTML = b"<html>502 Bad Gateway</html>"


@dataclass(frozen=True)
class Reply:
    """An answer. A body that is not bytes is sent as JSON; `cut` bytes of it are missing; `slowly` sends it in bits."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    hang_up: bool = False
    slowly: bool = False


@dataclass(frozen=True)
class Call:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class BadServer:
    """What it answers and what it was asked; the last reply to a path is repeated."""

    def __init__(self, script: Mapping[str, Reply]) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.script = {path: [reply] for path, reply in script.items()}
        self.otherwise: Callable[[Call], Reply] = lambda call: Reply(404, {"error": "no such route"})

    def answer(self, path: str, *replies: Reply) -> None:
        self.script[path] = list(replies)

    def asked(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path.partition("?")[0] == path]

    def reply_to(self, call: Call) -> Reply:
        self.calls.append(call)
        replies = self.script.get(call.path.partition("?")[0])
        if not replies:
            return self.otherwise(call)
        return replies.pop(0) if len(replies) > 1 else replies[0]


@contextmanager
def bad_server(port: int = 0, script: Mapping[str, Reply] = MappingProxyType({})) -> Iterator[BadServer]:
    """Serve `script`; a caller that waits for a known port needs it from the first moment."""
    told = BadServer(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            call = Call(self.command, self.path, dict(self.headers), json.loads(content) if content else None)
            reply = told.reply_to(call)
            self.close_connection = True
            if reply.hang_up:
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                if reply.slowly:
                    for place in range(len(body)):
                        self.wfile.write(body[place : place + 1])
                        time.sleep(0.05)  # a byte at a time is what a slow server is
                else:
                    self.wfile.write(body[: len(body) - reply.cut])
            except OSError:
                return  # the client hung up

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
