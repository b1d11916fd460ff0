"""Local is the service's own account, and not everybody who has one on this machine."""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.test.utils import override_settings

from access import local
from access.local import LocalCallers, account_of
from tasks.models import TaskEvent
from tests.support.access import ELSEWHERE, bearer
from tests.support.installation import Installation

Pair = tuple[socket.socket, socket.socket]


@contextmanager
def connected(family: socket.AddressFamily, address: str, to: str) -> Iterator[Pair]:
    """The two ends of a connection: the server's and the client's."""
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        with socket.create_connection((to, listener.getsockname()[1])) as client:
            server, _ = listener.accept()
            with server:
                yield server, client


@pytest.fixture(params=["sock_diag", "tables"])
def _asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tables":
        monkeypatch.setattr(local, "_SOCK_DIAG", 21)  # which no kernel has
    else:
        monkeypatch.setattr(local, "_TABLES", {})


@pytest.mark.usefixtures("_asked")
@pytest.mark.parametrize(
    ("family", "address", "to"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
        (socket.AF_INET6, "::", "::ffff:127.0.0.1"),
    ],
)
def test_the_account_of_a_connection_is_known(family: socket.AddressFamily, address: str, to: str) -> None:
    with connected(family, address, to) as (server, _):
        assert account_of(server) == os.geteuid()


@pytest.mark.usefixtures("_asked")
def test_a_connection_that_its_program_closed_is_nobodys() -> None:
    with connected(socket.AF_INET, "127.0.0.1", "127.0.0.1") as (server, client):
        client.close()
        assert account_of(server) is None


def test_a_listener_with_the_port_of_the_peer_is_not_the_peer() -> None:
    """The kernel takes it for an answer when it finds no connection: its account is not the caller's."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(OSError, match="sock_diag"):
        local._account_by_diag(listener.getsockname(), ("127.0.0.1", 9))


def test_a_connection_that_is_bound_to_a_device_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_TABLES", {})
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            assert account_of(server) == os.geteuid()


def test_another_account_of_this_machine_is_not_local() -> None:
    with connected(socket.AF_INET, "127.0.0.1", "127.0.0.1") as (server, _):
        request = RequestFactory().get("/", **{"gunicorn.socket": server})
        with override_settings(LOCAL_ACCOUNTS={os.geteuid()}):
            caller = LocalCallers().caller(request)
            assert caller is not None
            assert caller.identity == "local"
        with override_settings(LOCAL_ACCOUNTS={os.geteuid() + 1}):
            assert LocalCallers().caller(request) is None
        with override_settings(LOCAL_ACCOUNTS={os.geteuid()}):
            assert LocalCallers().caller(RequestFactory().get("/")) is None, "a request without a connection"


@pytest.mark.parametrize(
    "header",
    [
        *("X-Forwarded", "Forwarded-For", "X-Original-Forwarded-For", "X-Envoy-External-Address"),
        *("X-Cluster-Client-IP", "Fastly-Client-IP", "Fly-Client-IP"),
    ],
)
@pytest.mark.usefixtures("seeded")
def test_what_a_proxy_passed_on_is_not_local(header: str) -> None:
    assert Client().get("/api/v1/tasks").status_code == 200
    assert Client(headers={header: "1.2.3.4"}).get("/api/v1/tasks").status_code == 401


@pytest.mark.usefixtures("seeded")
def test_an_account_called_local_is_not_taken_for_a_program_of_this_machine() -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("local"))
    client.post("/api/v1/tasks", {"name": "Work"}, content_type="application/json")
    assert TaskEvent.objects.latest("pk").caller == "account:local"
    with override_settings(TOKENS_PER_MINUTE=1):
        asked = [client.post("/api/token", {"task_id": "T1"}, content_type="application/json") for _ in range(2)]
    assert asked[1].status_code == 429, "local programs have no limit of tokens"


@pytest.mark.usefixtures("seeded")
def test_metrics_answer_to_our_names_and_to_addresses() -> None:
    assert Client(headers={"Host": "evil.example"}).get("/metrics").status_code == 400
    assert Client(headers={"Host": "evil.example"}).get("/health").status_code == 200
    for host in ("localhost", "10.42.0.17:8080", "[fd00::17]:8080"):
        assert Client(headers={"Host": host}).get("/metrics").status_code == 200, host


def test_an_open_service_refuses_wrong_keys_and_lets_in_what_nobody_can_judge(tmp_path: pathlib.Path) -> None:
    made = Installation(tmp_path, LOBWIFE_API_AUTH="open")
    try:
        made.migrate()
        made.start_web()
        assert made.get("/api/v1/tasks", headers=ELSEWHERE).status == 200
        wrong = made.get("/api/v1/tasks", headers=bearer("lw_0123abcd_" + "x" * 43) | ELSEWHERE)
        assert wrong.status == 401
        pod = made.get("/api/v1/tasks", headers=bearer("head.body.sign") | ELSEWHERE)
        assert pod.status == 200, "without a cluster there is nobody who could tell"
    finally:
        made.stop()
