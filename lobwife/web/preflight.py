"""Checks before anything starts; each failure is one sentence that says what to change."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import socket
import tempfile

from core.errors import Conflict, Invalid, Unavailable

PID_FILE = "supervisord.pid"
# For the first start alone: scripts and the processes of web and daemon don't get to see them.
OPERATOR_VARIABLES = ("DJANGO_SUPERUSER_USERNAME", "DJANGO_SUPERUSER_PASSWORD", "DJANGO_SUPERUSER_EMAIL")


def check_state_directory(directory: pathlib.Path) -> None:
    """Make the directory if it is missing; raises Unavailable when it can't be written."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise Unavailable(
            f"The state directory {directory} can't be written ({_reason(error)}):"
            " set LOBWIFE_STATE_DIR to a directory that this user may write."
        ) from None


def check_nothing_runs(directory: pathlib.Path) -> None:
    """Raise Conflict when another `manage.py serve` runs on this state directory."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((directory / PID_FILE).read_text())
        # The pid may have been reused since: supervisord is recognised by its command.
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        if pid != os.getpid() and b"lobwife.web.supervisor" in command:
            raise Conflict(
                f"lobwife already runs on the state directory {directory} (process {pid}):"
                " stop that one, or set LOBWIFE_STATE_DIR to another directory."
            )


def check_ports(address: str, ports: dict[str, int]) -> None:
    """Raise Conflict or Invalid when a port can't be bound; `ports` maps the variable that sets it to the port."""
    if len(set(ports.values())) < len(ports):
        raise Invalid(f"{' and '.join(ports)} are the same port: set them to different ones.")
    for variable, port in ports.items():
        try:
            family, kind, protocol, _, socket_address = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as candidate:
                candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn will
                candidate.bind(socket_address)
                candidate.listen()
        except OSError as error:
            raise _port_error(error, address, port, variable) from None


def _port_error(error: OSError, address: str, port: int, variable: str) -> Conflict | Invalid:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"Port {port} of {address} is in use: set {variable} to a free one, or stop what uses it.")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Conflict(f"This user may not listen on port {port}: set {variable} to one above 1023.")
    return Invalid(f"LOBWIFE_BIND is {address!r}, where nothing can listen ({_reason(error)}): set another address.")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
