"""What must be so before anything starts; otherwise one sentence that says what to change."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import socket
import tempfile

from core.errors import Conflict, Invalid, Unavailable

PID_FILE = "supervisord.pid"


def check_state_directory(directory: pathlib.Path) -> None:
    """Make the directory where it is missing; raises Unavailable when nothing can be written in it."""
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
    """Raises Conflict when another `manage.py serve` runs on this state directory."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((directory / PID_FILE).read_text())
        # The pid may have gone to something else since: ours is told by its command.
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        if pid != os.getpid() and b"lobwife.web.supervisord" in command:
            raise Conflict(
                f"lobwife already runs on the state directory {directory} (process {pid}):"
                " stop that one, or set LOBWIFE_STATE_DIR to another directory."
            )


def check_ports(address: str, ports: dict[str, int]) -> None:
    """`ports` maps the variable that sets a port to the port; raises Conflict or Invalid when one can't be had."""
    if len(set(ports.values())) < len(ports):
        raise Invalid(f"{' and '.join(ports)} are the same port: set them to different ones.")
    for variable, port in ports.items():
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as candidate:
                candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn will
                candidate.bind(where)
                candidate.listen()
        except OSError as error:
            raise _refusal(error, address, port, variable) from None


def _refusal(error: OSError, address: str, port: int, variable: str) -> Conflict | Invalid:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"Port {port} of {address} is in use: set {variable} to a free one, or stop what uses it.")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Conflict(f"This user may not listen on port {port}: set {variable} to one above 1023.")
    return Invalid(f"LOBWIFE_BIND is {address!r}, where nothing can listen ({_reason(error)}): set another address.")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
