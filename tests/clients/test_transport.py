"""What the client makes of servers that are away, slow, restarting, behind a proxy, or not lobwife's."""

from __future__ import annotations

import ipaddress
import pathlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from cryptography import x509
from lobwife_client import BadSettings, Client, Conflict, CursorGone, NotFound, Refused, Unauthorized, Unreachable

from tests.support.bad_server import HTML, BadServer, Reply, bad_server
from tests.support.git_server import tls_context
from tests.support.installation import free_ports

TASK = "/api/v1/tasks/1"
EVENTS = f"{TASK}/events"
LOGGED = Reply(201, {"status": "logged", "task_id": "T1"})
SHOWN = Reply(200, {"id": 1, "task_id": "T1"}, {"ETag": '"one"'})


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOBWIFE_URL", "LOBWIFE_API_KEY", "LOBWIFE_TOKEN_PATH", "LOBWIFE_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as started:
        yield started


@pytest.fixture
def client(server: BadServer) -> Client:
    return Client(server.url, "lw_key", retry_seconds=10)


@pytest.mark.parametrize(
    "bad",
    [
        Reply(503, HTML),
        Reply(502, HTML),
        Reply(200, HTML),
        Reply(404, HTML),
        Reply(503, {"error": "the database is locked"}, {"Retry-After": "0"}),
        Reply(429, {"error": "too often"}, {"Retry-After": "0"}),
        Reply(200, {"id": 1, "task_id": "T1"}, cut=3),
        Reply(hang_up=True),
    ],
)
def test_a_call_that_does_no_harm_is_made_again(server: BadServer, client: Client, bad: Reply) -> None:
    server.answer(TASK, bad, bad, SHOWN)
    assert client.task(1)["task_id"] == "T1"
    assert len(server.calls) == 3
    server.answer(EVENTS, bad, LOGGED)
    client.add_event(1, "note", "once")
    keys = {call.headers["Idempotency-Key"] for call in server.asked(EVENTS)}
    assert len(server.asked(EVENTS)) == 2
    assert len(keys) == 1, "the server can tell that it is the same call"


def test_each_call_has_an_idempotency_key_of_its_own(server: BadServer, client: Client) -> None:
    server.answer(EVENTS, LOGGED)
    client.add_event(1, "note", "the same")
    client.add_event(1, "note", "the same")
    assert len({call.headers["Idempotency-Key"] for call in server.calls}) == 2


@pytest.mark.parametrize("bad", [Reply(502, HTML), Reply(200, HTML), Reply(hang_up=True)])
def test_a_change_that_may_have_been_made_is_not_made_again(server: BadServer, client: Client, bad: Reply) -> None:
    server.answer(TASK, bad)
    with pytest.raises(Unreachable):
        client.update_task(1, status="active")
    with pytest.raises(Unreachable):
        client.cancel_task(1)
    assert [call.method for call in server.calls] == ["PATCH", "DELETE"]
    server.answer(TASK, Reply(503, HTML), Reply(200, {"updated": ["status"]}))
    assert client.update_task(1, status="active") == {"updated": ["status"]}, "a 503 was not executed"


def test_a_lobwife_that_comes_back_is_found(client: Client) -> None:
    (port,) = free_ports(1)
    waiting = Client(f"http://127.0.0.1:{port}", "", retry_seconds=30)
    answers: list[object] = []
    caller = threading.Thread(target=lambda: answers.append(waiting.update_task(1, status="active")))
    caller.start()
    with bad_server(port, {TASK: Reply(200, {"updated": ["status"]})}):
        caller.join(20)
        assert answers == [{"updated": ["status"]}], "a change that was never sent is sent once somebody listens"


def test_the_deadline_is_the_callers_and_ends_in_one_clear_error() -> None:
    (port,) = free_ports(1)
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"^lobwife does not answer: .*refused") as caught:
        Client(f"http://127.0.0.1:{port}", "", retry_seconds=1.5).jobs()
    assert time.monotonic() - started < 5
    assert (caught.value.status, caught.value.was_sent) == (0, False)


def test_nobody_waits_for_longer_than_the_deadline_however_long_the_server_says(server: BadServer) -> None:
    server.answer("/api/jobs", Reply(503, {"error": "GitHub said to wait"}, {"Retry-After": "3600"}))
    started = time.monotonic()
    with pytest.raises(Refused, match="GitHub said to wait") as caught:
        Client(server.url, "").jobs()
    assert time.monotonic() - started < 5
    assert (caught.value.status, caught.value.retry_after) == (503, 3600)


def test_a_refused_key_is_never_tried_again(server: BadServer, client: Client) -> None:
    for body in ({"error": "this key was revoked"}, HTML):
        server.answer(TASK, Reply(401, body))
        server.calls.clear()
        with pytest.raises(Unauthorized):
            client.task(1)
        assert len(server.calls) == 1
        assert server.calls[0].headers["Authorization"] == "Bearer lw_key"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (403, Refused), (404, NotFound), (409, Conflict), (422, Refused), (500, Refused)],
)
def test_a_refusal_is_an_error_with_lobwifes_sentence(
    server: BadServer, client: Client, status: int, kind: type[Refused]
) -> None:
    server.answer(TASK, Reply(status, {"error": "not \x1b[31m so"}))
    with pytest.raises(kind) as caught:
        client.task(1)
    assert str(caught.value) == f"GET {TASK}: {status} not  [31m so"
    assert (caught.value.status, len(server.calls)) == (status, 1)


def test_a_setting_of_the_broker_is_not_waited_for(server: BadServer, client: Client) -> None:
    reason = {"error": "Token broker not configured (no PEM key)"}
    server.answer("/api/token", Reply(503, reason))
    with pytest.raises(Refused, match="not configured"):
        client.token(1)
    assert len(server.calls) == 1
    slow = Reply(503, {"error": "GitHub is slow"}, {"Retry-After": "0"})
    server.answer("/api/token", slow, Reply(200, {"token": "ghs_x", "expires_at": ""}))
    assert client.token(1)["token"] == "ghs_x"


def test_no_redirect_is_followed(server: BadServer, client: Client) -> None:
    server.answer(TASK, Reply(302, b"", {"Location": server.url + "/elsewhere"}))
    with pytest.raises(Refused, match="a redirect"):
        client.task(1)
    assert [call.path for call in server.calls] == [TASK]


def test_no_proxy_of_the_environment_is_asked(
    server: BadServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answer(TASK, SHOWN)
    assert client.task(1)["id"] == 1


def test_an_answer_that_never_ends_is_given_up(server: BadServer) -> None:
    server.answer("/slow", Reply(200, b"x" * 100000, slowly=True))
    client = Client(server.url, "", retry_seconds=0)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="timed out"):
        client.transport.call("GET", "/slow", timeout=0.5)
    assert time.monotonic() - started < 5


def test_an_answer_without_bounds_is_not_read(server: BadServer) -> None:
    server.answer("/large", Reply(200, b"x" * 2000))
    with pytest.raises(Unreachable, match="larger than 1000 bytes"):
        Client(server.url, "").transport.send("GET", "/large", most_bytes=1000)


def test_what_does_not_speak_http_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def serve() -> None:
            connection, _ = stranger.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail.example ready\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unreachable, match="does not answer in HTTP"):
            Client(f"http://127.0.0.1:{stranger.getsockname()[1]}", "", retry_seconds=0).jobs()
        thread.join()


# --- settings
@pytest.mark.parametrize(
    "url", ["host", "ftp://a", "http://", "http://[::1", "http://a:99999", "http://a b", "http://a..b"]
)
def test_an_address_that_is_none_is_an_error_at_once(url: str) -> None:
    with pytest.raises(BadSettings, match="must be an address"):
        Client(url)


def test_settings_come_from_the_environment_and_a_file_is_read_anew(
    server: BadServer, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    monkeypatch.setenv("LOBWIFE_URL", server.url + "/")
    monkeypatch.setenv("LOBWIFE_TOKEN_PATH", str(file))
    server.answer(TASK, SHOWN)
    client = Client()
    client.task(1)
    file.write_text("second\n")
    client.task(1)
    monkeypatch.setenv("LOBWIFE_API_KEY", "lw_x")
    Client().task(1)
    assert [call.headers["Authorization"] for call in server.calls] == ["Bearer first", "Bearer second", "Bearer lw_x"]


@pytest.mark.parametrize("key", ["two words", "a\r\nHost: evil", "ü"])
def test_a_key_that_is_none_is_an_error_at_once_and_is_not_shown(key: str) -> None:
    with pytest.raises(BadSettings, match="not one word") as caught:
        Client("http://127.0.0.1:1", key)
    assert key not in str(caught.value)


def test_an_own_certificate_is_trusted_by_its_file_and_by_nothing_else(tmp_path: pathlib.Path) -> None:
    certificate = tmp_path / "certificate.pem"
    context = tls_context(certificate, tmp_path / "key.pem", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(65536)
                        secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                except ssl.SSLError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(Unreachable, match="LOBWIFE_CA_FILE"):
            Client(url, "").jobs()
        assert time.monotonic() - started < 10, "it is not waited for"
        assert Client(url, "", str(certificate)).jobs() == {}
        thread.join()
    with pytest.raises(BadSettings, match="LOBWIFE_CA_FILE can't be used"):
        Client(url, "", str(tmp_path / "missing"))


# --- answers
def test_lists_go_on_at_the_next_page(server: BadServer, client: Client) -> None:
    path = "/api/v1/tasks"
    following = {"Link": f'<{path}?order=queue&limit=500&cursor=2.17.2026-02-16+12%3A00%3A00>; rel="next"'}
    server.answer(path, Reply(200, [{"id": 1}, {"id": 2}], following), Reply(200, [{"id": 3}]))
    assert [task["id"] for task in client.tasks(order="queue")] == [1, 2, 3]
    assert server.calls[1].path == f"{path}?order=queue&limit=500&cursor=2.17.2026-02-16+12%3A00%3A00"
    server.answer(path, Reply(200, [{"id": 1}, {"id": 2}], following))
    server.calls.clear()
    assert [task["id"] for task in client.tasks(limit=2)] == [1, 2]
    assert len(server.calls) == 1


def test_events_go_on_after_the_last_one_through_an_outage(server: BadServer, client: Client) -> None:
    def page(*numbers: int, next: int) -> Reply:
        return Reply(200, {"events": [{"id": number} for number in numbers], "next": next})

    gone = Reply(410, {"error": "events were removed", "next": 99})
    server.answer("/api/v1/events", page(next=4), page(5, 6, next=7), Reply(502, HTML), page(8, next=8), gone)
    events = client.events(types=["task.*"])
    assert [next(events)["id"] for _ in range(3)] == [5, 6, 8]
    with pytest.raises(CursorGone) as caught:
        next(events)
    assert caught.value.next == 99
    afters = [call.path.partition("after=")[2].partition("&")[0] for call in server.calls]
    assert afters == ["", "4", "7", "7", "8"]
