"""What `gh` sends to whatever is at LOBWIFE_URL, and what it makes of odd answers, addresses and credentials."""

from __future__ import annotations

import http.server
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.gh import Gh


class Listener(http.server.BaseHTTPRequestHandler):
    """Writes down what it is sent, and answers as told."""

    answers: list[tuple[int, bytes, str]] = []
    seen: list[str | None] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(self.headers.get("Authorization"))
        status, body, location = self.answers.pop(0)
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # where a redirect that is followed ends
        self.seen.append(self.headers.get("Authorization"))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    Listener.answers, Listener.seen = [], []
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def gh(tmp_path: pathlib.Path, listener: str) -> Gh:
    return Gh(tmp_path, listener)


def test_the_wrappers_send_their_own_credential(gh: Gh, listener: str, tmp_path: pathlib.Path) -> None:
    good = b'{"token": "ghs_x", "expires_at": "2026-02-16T12:00:00Z"}'
    Listener.answers = [(200, good, "")] * 3
    (tmp_path / "projected").write_text("a.projected.token\n")
    gh.run("pr", TASK_ID="T1", LOBWIFE_URL=listener, LOBWIFE_API_KEY="lw_key")
    gh.run("pr", TASK_ID="T1", LOBWIFE_URL=listener, LOBWIFE_TOKEN_PATH=str(tmp_path / "projected"))
    gh.run("pr", TASK_ID="T1", LOBWIFE_URL=listener)
    assert Listener.seen == ["Bearer lw_key", "Bearer a.projected.token", None]


def test_an_odd_answer_of_the_broker_is_an_error_and_no_redirect_is_followed(gh: Gh, listener: str) -> None:
    odd = [
        (401, b'{"error": "who are you?"}', ""),
        (302, b"", listener + "/elsewhere"),
        (307, b"", listener + "/elsewhere"),
        (200, b'{"token": "a\\nb", "expires_at": ""}', ""),
        (200, b"<html>", ""),
        (503, b'{"error": "GitHub failed\\u001b[31m (500)"}', ""),
    ]
    for answer in odd:
        Listener.answers = [answer]
        done = gh.run("pr", TASK_ID="T1", LOBWIFE_URL=listener, LOBWIFE_API_KEY="lw_key", GH_TOKEN="mine")
        assert (done.returncode, gh.seen) == (1, None)
        assert "\x1b" not in done.stderr
    assert len(Listener.seen) == len(odd)


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://127.0.0.1:x", "http://127.0.0.1:99999", "http://a b", "http://", "ftp://a", "nothing"],
)
def test_an_address_that_is_none_is_an_error_in_words(gh: Gh, url: str) -> None:
    done = gh.run("pr", TASK_ID="T1", LOBWIFE_URL=url, GH_TOKEN="mine")
    assert (done.returncode, gh.seen) == (1, None)
    assert (
        done.stderr
        == "gh: no token from lobwife: LOBWIFE_URL must be an address that begins with http:// or https://\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 60000,
        b"HTTP/1.1 403 No\r\n\r\n" + b"[" * 60000,
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_broker_is_an_error_in_words(gh: Gh, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(65536)  # what is left of the request: unread, it would undo the answer

        thread = threading.Thread(target=serve)
        thread.start()
        done = gh.run("pr", TASK_ID="T1", LOBWIFE_URL=f"http://127.0.0.1:{server.getsockname()[1]}", GH_TOKEN="mine")
        thread.join()
    assert (done.returncode, gh.seen) == (1, None)
    assert "Traceback" not in done.stderr


def test_a_credential_that_is_no_text_is_an_error_in_words(gh: Gh, tmp_path: pathlib.Path) -> None:
    (tmp_path / "projected").write_bytes(b"\xff\xfe")
    done = gh.run("pr", TASK_ID="T1", LOBWIFE_TOKEN_PATH=str(tmp_path / "projected"), GH_TOKEN="mine")
    assert (done.returncode, gh.seen) == (1, None)
    assert "not one word" in done.stderr
