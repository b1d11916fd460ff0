"""A TCP proxy before a socket of this machine, which can be cut: it stays connected and forwards nothing."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import threading


class Proxy:
    """Forwards until it is cut; what comes meanwhile is forwarded once it is mended."""

    def __init__(self, target: pathlib.Path) -> None:
        self._target = target
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
        target = socket.socket(socket.AF_UNIX)
        try:
            target.connect(str(self._target))
        except OSError:
            client.close()
            return
        threading.Thread(target=self._forward, args=(client, target), daemon=True).start()
        self._forward(target, client)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._is_whole.wait()
                sink.sendall(data)
        self._is_whole.wait()
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
