"""Local callers: programs on this machine or in this pod that run as the service's own account, or as root.

Loopback alone says nothing: every account of the machine connects from there. The kernel says to which account a
connection belongs: by sock_diag(7), or where that is missing, as under gVisor, by its tables of all sockets, which take
it milliseconds to write when there are thousands.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.http import HttpRequest

from access.authentication import is_cross_site
from access.hosts import is_ours
from core.callers import LOCAL, Caller, Role

_FORWARDED = tuple(
    f"HTTP_{name}"
    for name in (
        *("FORWARDED", "FORWARDED_FOR", "VIA", "CLIENT_IP", "TRUE_CLIENT_IP", "CF_CONNECTING_IP", "FASTLY_CLIENT_IP"),
        *("FLY_CLIENT_IP", "CDN_LOOP", "X_FORWARDED", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PORT"),
        *("X_FORWARDED_PREFIX", "X_FORWARDED_PROTO", "X_FORWARDED_SCHEME", "X_FORWARDED_SERVER", "X_FORWARDED_SSL"),
        *("X_ORIGINAL_FORWARDED_FOR", "X_ORIGINAL_HOST", "X_REAL_IP", "X_CLIENT_IP", "X_CLUSTER_CLIENT_IP"),
        *("X_ENVOY_EXTERNAL_ADDRESS", "X_AZURE_CLIENTIP", "X_APPENGINE_USER_IP"),
    )
)
_LOCAL = {address: Caller(LOCAL, Role.OPERATOR, address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1")}
_TABLES = {4: ("/proc/net/tcp", "/proc/net/tcp6"), 6: ("/proc/net/tcp6",)}
_NO_INODE = "0"  # a socket that its program has closed: the account need not be the one whose it was
# See netlink(7) and sock_diag(7).
_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST = 4, 20, 1
_HEADER, _QUESTION, _ANSWER = map(struct.Struct, ("=IHHII", "=BBBBI4s16s16sI8s", "=4x4s44x12xII"))
_ANY_COOKIE = b"\xff" * 8


class LocalCallers:
    """Finds out once for each connection whose it is."""

    def __init__(self) -> None:
        self._is_own: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

    def caller(self, request: HttpRequest) -> Caller | None:
        """Return the caller `local`, of role operator; None for a request that is not a local program's."""
        caller = _LOCAL.get(request.META.get("REMOTE_ADDR", ""))
        if caller is None or not settings.TRUST_LOOPBACK or came_through_a_proxy(request) or is_cross_site(request):
            return None
        if not is_ours(request):
            return None  # a name that is not ours for certain may have been pointed at loopback
        return caller if self._is_of_own_account(request) else None

    def _is_of_own_account(self, request: HttpRequest) -> bool:
        if settings.LOCAL_ACCOUNTS is None:
            return True
        connection = request.META.get("gunicorn.socket")
        if connection is None:
            return False
        is_own = self._is_own.get(connection)
        if is_own is None:
            is_own = account_of(connection) in settings.LOCAL_ACCOUNTS
            self._is_own[connection] = is_own
        return is_own


def came_through_a_proxy(request: HttpRequest) -> bool:
    """Return whether a proxy forwarded the request."""
    meta = request.META
    return any(name in meta for name in _FORWARDED)


def account_of(connection: socket.socket) -> int | None:
    """Return the user id of the program at the other end; None if it is elsewhere, or has closed the connection."""
    with contextlib.suppress(OSError, ValueError):
        peer, own = connection.getpeername(), connection.getsockname()
        with contextlib.suppress(OSError, struct.error):
            return _account_by_diag(peer, own)
        for table in _TABLES[_unmapped(peer[0]).version]:
            ends = [_in_table(address[0], address[1], table) for address in (peer, own)]
            with open(table) as sockets:
                for line in sockets:
                    fields = line.split()
                    if fields[1:3] == ends and fields[9] != _NO_INODE:
                        return int(fields[7])
    return None


def _account_by_diag(peer: tuple[Any, ...], own: tuple[Any, ...]) -> int | None:
    """Ask the kernel for the socket with these ends; raises OSError or struct.error when it has no such answer."""
    addresses = [_unmapped(end[0]) for end in (peer, own)]
    family = socket.AF_INET if addresses[0].version == 4 else socket.AF_INET6
    ends = struct.pack("!HH", peer[1], own[1]), *(address.packed for address in addresses)
    loopback = socket.if_nametoindex("lo")  # else sockets that are bound to it would not be found
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF, *ends, loopback, _ANY_COOKIE)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(1)  # it has answered by the time that it has the question
        kernel.send(_HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0) + question)
        answer = kernel.recv(4096)
    _, kind, *_ = _HEADER.unpack_from(answer)
    ports, account, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    if kind != _SOCK_DIAG_BY_FAMILY or ports != ends[0]:  # a listener's, which the kernel takes where it finds no other
        raise OSError(errno.ENOENT, "sock_diag")
    return account if inode else None


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def _in_table(address: str, port: int, table: str) -> str:
    """Return an end of a connection as the kernel writes it: 32-bit words in the order of this machine."""
    ip = _unmapped(address)
    packed = ip.packed
    if table.endswith("6") and ip.version == 4:
        packed = ipaddress.IPv6Address(f"::ffff:{ip}").packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"
