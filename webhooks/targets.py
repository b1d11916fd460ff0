"""Where webhooks may go: by https to public addresses, to this machine, and to what the operator names.

A name is resolved once, judged, and that address is connected to: it can't mean another one a moment later.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from core.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Target:
    """A URL's host and port, and the address to connect to."""

    host: str
    port: int
    address: str


def check_url(url: str) -> None:
    """Raises Invalid, with a sentence, for a URL that can't be a target: of a name, whatever its address is."""
    scheme, host, port = _parts(url)
    address = _written_address(host)
    problem = _problem(scheme, host, port, address) if address is not None else None
    if problem is not None:
        raise Invalid(problem)


def resolve(url: str) -> Target:
    """Return the target of a URL, its name resolved now; raises Invalid for an address that is not allowed."""
    scheme, host, port = _parts(url)
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Invalid(f"{host} can't be resolved") from None
    reason = f"{host} has no address"
    for *_, place in addresses:
        problem = _problem(scheme, host, port, _plain(str(place[0])))
        if problem is None:
            return Target(host, port, str(place[0]))
        reason = problem
    raise Invalid(reason)


def _parts(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Invalid("it is not a URL such as https://example.com/hook") from None
    if parts.scheme not in _PORTS or not host or not url.isascii() or not url.isprintable() or url.split() != [url]:
        raise Invalid("it must be a URL such as https://example.com/hook")
    if parts.username is not None or parts.fragment:
        raise Invalid("it must have no user name, no password and no fragment")
    port = port or _PORTS[parts.scheme]
    if parts.scheme == "http" and not _may_be_here(host):
        raise Invalid("it must begin with https://; http:// is for this machine alone")
    return parts.scheme, host, port


def _may_be_here(host: str) -> bool:
    address = _written_address(host)
    return address is not None and address.is_loopback


def _written_address(host: str) -> Address | None:
    """Return the address that a host says by itself; None for a name that is to be resolved."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return _plain(host)
    except ValueError:
        return None


def _problem(scheme: str, host: str, port: int, address: Address) -> str | None:
    """Return why an address is not allowed; None when it is."""
    if address.is_loopback:
        if port in {settings.WEB_PORT, settings.API_PORT}:  # where a program of this machine is an operator
            return f"{host} port {port} is lobwife itself"
        return None
    if scheme == "http":
        return f"{host} is not this machine: use https"
    if address.is_global and not address.is_multicast:
        return None
    if any(address in network for network in settings.WEBHOOK_PRIVATE if network.version == address.version):
        return None
    subject = f"{host} is a private address" if host == str(address) else f"{host} has the private address {address}"
    return f"{subject}: name it in LOBWIFE_WEBHOOK_PRIVATE, if that is meant"


def _plain(text: str) -> Address:
    """Return an address; the IPv4 address that an IPv6 one stands for."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address
