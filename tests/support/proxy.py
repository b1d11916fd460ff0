"""A TCP proxy before sockets of this machine, which can be cut: it stays connected and forwards nothing."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import threading


class Proxy:
    """Forwards until it is cut; what comes meanwhile is forwarded once it is mended.

    A target is the path of a socket or a port of this machine. Of several, each connection goes to the next one, or to
    the one after that which takes it. `targets` may be replaced: connections that are open stay where they are.
    """

    def __init__(self, *targets: pathlib.Path | int) -> None:
        self.targets = targets
        self._turn = 0
        self._is_whole = threading.Event()
        self._is_whole.set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._is_whole.clear()

    def mend(self) -> None:
        self._is_whole.set()

    def close(self) -> None:
        self.mend()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._server.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._is_whole.wait()
        target = self._connect()
        if target is None:
            client.close()
            return
        threading.Thread(target=self._forward, args=(client, target), daemon=True).start()
        self._forward(target, client)

    def _connect(self) -> socket.socket | None:
        self._turn += 1
        for place in range(len(self.targets)):
            target = self.targets[(self._turn + place) % len(self.targets)]
            with contextlib.suppress(OSError):
                return _connected(target)
        return None

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._is_whole.wait()
                sink.sendall(data)
        self._is_whole.wait()
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _connected(target: pathlib.Path | int) -> socket.socket:
    if isinstance(target, int):
        return socket.create_connection(("127.0.0.1", target), timeout=None)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(target))
    except OSError:
        connection.close()
        raise
    return connection
