"""Where webhooks may go."""

from __future__ import annotations

import ipaddress
import pathlib
import socket
import ssl

import pytest
from cryptography import x509
from django.conf import LazySettings

from core.errors import Invalid
from tests.support.git_server import tls_context
from tests.support.raw_receiver import raw_receiver, read_request
from webhooks import sending, targets


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.com/", "http://10.0.0.1/", "ftp://hooks.example.com/", "hooks.example.com", ""),
        *("https://", "https://user:word@hooks.example.com/", "https://h.example.com/#part", "https://h:99999/"),
        *("https://10.0.0.1/x", "https://169.254.169.254/", "https://[fd00::1]/", "https://[::ffff:10.0.0.1]/"),
        *("https://a b/", "https://[::1/", "https://h.example.com/\r\nx: y", "http://localhost.example.com/"),
    ],
)
def test_what_is_no_target_is_refused_when_it_is_saved(url: str) -> None:
    with pytest.raises(Invalid):
        targets.check_url(url)


@pytest.mark.parametrize("url", ["https://hooks.example.com/a?b=c", "http://127.0.0.1:9/", "http://[::1]:9/x"])
def test_https_and_this_machine_are_targets(url: str) -> None:
    targets.check_url(url)


@pytest.mark.parametrize(
    "address",
    [
        *("10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
        *("fe80::1", "fd00::1", "::", "::ffff:10.0.0.1", "2002:0a00:0001::1", "255.255.255.255"),
    ],
)
def test_a_name_of_a_private_address_is_refused_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings, address: str
) -> None:
    resolves_to(monkeypatch, address)
    with pytest.raises(Invalid, match="LOBWIFE_WEBHOOK_PRIVATE"):
        targets.resolve("https://hooks.example.com/")
    settings.WEBHOOK_PRIVATE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    assert targets.resolve("https://hooks.example.com/").address == address


def test_the_address_that_was_judged_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "10.0.0.1", "93.184.215.14")
    assert targets.resolve("https://hooks.example.com/").address == "93.184.215.14"


def test_lobwife_itself_is_no_target(settings: LazySettings) -> None:
    for port in (settings.WEB_PORT, settings.API_PORT):
        for host in ("127.0.0.1", "localhost", "127.0.0.2", "[::1]"):
            with pytest.raises(Invalid, match="lobwife itself"):
                targets.resolve(f"http://{host}:{port}/api/v1/runs/pause")
            with pytest.raises(Invalid, match="lobwife itself"):
                targets.check_url(f"http://{host}:{port}/")


def test_an_address_is_refused_in_plain_words_until_its_network_is_named(settings: LazySettings) -> None:
    with pytest.raises(Invalid, match=r"^10\.0\.0\.1 is a private address: name it in LOBWIFE_WEBHOOK_PRIVATE"):
        targets.check_url("https://10.0.0.1/x")
    settings.WEBHOOK_PRIVATE = (ipaddress.ip_network("10.0.0.0/8"),)
    targets.check_url("https://10.0.0.1/x")


def test_a_name_is_resolved_once_and_its_certificate_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    certificate = tmp_path / "certificate.pem"
    context = tls_context(certificate, tmp_path / "key.pem", x509.DNSName("hooks.example.com"))
    trust = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(sending, "_tls", lambda: trust)
    resolved: list[str] = []

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            read_request(encrypted)
            encrypted.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[object]:
        resolved.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with raw_receiver(handle) as port:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        for host, error in (("hooks.example.com", ""), ("other.example.com", "it can't be reached (ConnectError)")):
            resolved.clear()
            answer = sending.call(f"https://{host}:{port}/", secret="whsec_YWJj", message_id="m", body="{}")
            assert answer.error == error
            assert resolved.count(host) == 1
