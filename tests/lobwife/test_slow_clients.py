"""Clients that take their time, or send what is hard to read: none of them keeps others waiting."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from core.processes import raise_open_files
from tests.support.installation import Installation

HEAD = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n"
WAYS = {
    "silent": b"",
    "half a head": b"GET /health HTTP/1.1\r\nHost: loc",
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{",
    "no last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "waits to be told": HEAD + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
    "too large": HEAD + b"Content-Length: 2000000\r\n\r\n{",
    "a length of 19 digits": HEAD + b"Content-Length: 0000000000000900000\r\n\r\n{",
    "a bare line feed": b"POST /api/v1/tasks HTTP/1.1\nHost: localhost\nContent-Length: 100\r\n\r\n{",
    "a chunk size of 13 digits": HEAD + b"Transfer-Encoding: chunked\r\n\r\n00000000fffff\r\n{\r\n\r\n",
    "a chunk size without an end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 30_000,
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
    with slow_clients(server, 40, sent=WAYS[way]):
        for _ in range(20):
            assert server.get("/health", timeout=3).status == 200


def test_clients_that_announce_large_bodies_keep_none_out_that_comes(server: Installation) -> None:
    announced = HEAD + b"Content-Length: 100000\r\n\r\n"
    with (
        slow_clients(server, 300, sent=announced + b"{"),
        socket.create_connection(("127.0.0.1", server.api_port), timeout=10) as client,
    ):
        client.sendall(announced + b" " * 100_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_readers_that_do_not_read_do_not_stop_the_service(server: Installation) -> None:
    found = re.search(rb'/static/ninja/swagger-ui-bundle[^"]*', server.get("/api/docs").body)
    assert found
    with contextlib.ExitStack() as stack:
        for _ in range(24):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(("127.0.0.1", server.api_port))
            client.sendall(b"GET " + found[0] + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1) == b"H"
        for _ in range(20):
            assert server.get("/health", timeout=3).status == 200


def test_chunks_of_one_byte_cost_others_little(server: Installation) -> None:
    """The service has work for some seconds of a processor, in turns of some milliseconds."""
    body = b"1\r\n \r\n" * 60_000
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.api_port), timeout=30))
            sender = threading.Thread(target=_send, args=(client, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body))
            sender.start()
            stack.callback(sender.join)
        for _ in range(20):
            assert server.get("/health", timeout=3).status == 200


def _send(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(data)


@pytest.mark.parametrize(
    "chunks",
    [b'd\r\n{"name": "x"}XX0\r\n\r\n', b"zz\r\n", b"-1\r\n\r\n", b"\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n"],
)
def test_malformed_chunks_are_refused_and_end_the_connection(server: Installation, chunks: bytes) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=15) as client:
        client.sendall(head + chunks + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.endswith(b'\r\n\r\n{"error":"the chunks of the body are malformed"}')
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"NO\r\n\r\n", HEAD + b"Content-Length: 1x\r\n\r\n"]
)
def test_a_malformed_head_is_refused_and_ends_the_connection(server: Installation, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=15) as client:
        client.sendall(sent + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1") == 1


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
        received = b"".join(iter(lambda: client.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 413")
        assert received.endswith(b'{"error":"the body is larger than 1 MiB"}')


@pytest.mark.parametrize("sent", [b"GET /health HT", b""])
def test_a_head_that_takes_too_long_is_ended(server: Installation, sent: bytes) -> None:
    with slow_clients(server, 1, sent=sent) as (client,):
        assert client.recv(65536) == b""  # blocks until the service ends it


@pytest.mark.soak
def test_a_body_that_takes_too_long_is_refused(server: Installation) -> None:
    with slow_clients(server, 1, sent=WAYS["half a body"]) as (client,):
        client.settimeout(60)
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert client.recv(1) == b""


@pytest.mark.soak
def test_an_answer_that_is_not_read_is_given_up(server: Installation) -> None:
    for _ in range(30):
        server.post("/api/v1/tasks", {"name": "x" * 100_000})
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", server.api_port))
        client.sendall(b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(25)
        received = 0
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65536):
                received += len(part)
    assert received < 3_000_000


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS)
def test_two_thousand_slow_clients_do_not_stop_the_service(server: Installation, way: str) -> None:
    raise_open_files()
    with slow_clients(server, 2000, sent=WAYS[way]):
        for _ in range(200):
            assert server.get("/health", timeout=3).status == 200
