"""Clients that take their time: none of them holds a thread."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator

import pytest

from tests.support.installation import Installation, wait_for

HEAD = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n"
WAYS = {
    "silent": b"",
    "half a head": b"GET /health HTTP/1.1\r\nHost: loc",
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{",
    "no last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "waits to be told": HEAD + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
    "too large": HEAD + b"Content-Length: 2000000\r\n\r\n{",
    "keeps alive": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "keeps alive, then half": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HT",
    "stays after the end": b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "takes no answer": b"GET /api/v1/tasks?limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
}


@contextlib.contextmanager
def slow_clients(server: Installation, count: int, *, sent: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.api_port), timeout=30))
            client.sendall(sent)
            if sent.startswith(b"GET") and b"\r\n\r\n" in sent:
                assert client.recv(1) == b"H"  # answered; what it does from now on is wait
            clients.append(client)
        yield clients


@pytest.mark.parametrize("way", WAYS)
def test_slow_clients_do_not_stop_the_service(server: Installation, way: str) -> None:
    threads = 2 * 4
    with slow_clients(server, threads * 5, sent=WAYS[way]):
        for _ in range(20):
            assert server.get("/health", timeout=3).status == 200


def test_a_request_in_small_pieces_is_answered(server: Installation) -> None:
    body = b'{"name": "piecemeal"}'
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=15) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(whole), 5):
            client.sendall(whole[at : at + 5])
        assert client.recv(65536).startswith(b"HTTP/1.1 201")


def test_chunks_in_small_pieces_are_answered(server: Installation) -> None:
    whole = (
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n9;x=y\r\n{"name": \r\n8\r\n"chunky"\r\n1\r\n}\r\n0\r\nT: x\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=15) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(whole), 7):
            client.sendall(whole[at : at + 7])
        assert client.recv(65536).startswith(b"HTTP/1.1 201")


def test_requests_sent_right_behind_each_other_are_all_answered(server: Installation) -> None:
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=15) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 20:
            part = client.recv(65536)
            assert part, received
            received += part


def test_a_client_that_waits_to_be_told_is_told_and_one_that_is_too_large_is_refused(server: Installation) -> None:
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=15) as client:
        client.sendall(HEAD + b"Content-Length: 13\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b'{"name": "x"}')
        received = client.recv(65536)
        assert b"HTTP/1.1 201" in received + (b"" if b" 201 " in received else client.recv(65536))
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=15) as client:
        client.sendall(HEAD + b"Content-Length: 13000000\r\nExpect: 100-continue\r\n\r\n")
        received = client.recv(65536)
        assert received.startswith(b"HTTP/1.1 413")
        assert received.endswith(b'{"error":"the body is larger than 1 MiB"}')


@pytest.mark.parametrize(("sent", "told"), [(b"GET /health HT", b" 408 "), (b"", b"")])
def test_a_request_that_takes_too_long_is_ended(server: Installation, sent: bytes, told: bytes) -> None:
    with slow_clients(server, 1, sent=sent) as (client,):
        answer = client.recv(65536)  # blocks until the service ends it
        assert told in answer.partition(b"\r\n")[0]
        assert not answer or client.recv(1) == b""


def test_the_worker_stops_at_once_while_clients_idle(installation: Installation) -> None:
    web = installation.start_web()
    with slow_clients(installation, 20, sent=WAYS["keeps alive"]):
        web.terminate()
        wait_for(lambda: web.poll() is not None, 10)
        assert web.returncode == 0


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS)
def test_two_thousand_slow_clients_do_not_stop_the_service(server: Installation, way: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with slow_clients(server, 2000, sent=WAYS[way]):
        for _ in range(200):
            assert server.get("/health", timeout=3).status == 200
