"""Handing over to supervisord, which keeps web and daemon running in the foreground."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import sys
from typing import NoReturn

from django.conf import settings

from core.parent_death import SUPERVISOR_VARIABLE

CONFIGURATION = pathlib.Path(settings.BASE_DIR) / "deploy" / "supervisord.conf"
_FOR_THIS_PROCESS_ALONE = ("DJANGO_SUPERUSER_USERNAME", "DJANGO_SUPERUSER_PASSWORD", "DJANGO_SUPERUSER_EMAIL")


def become_supervisor() -> NoReturn:
    """This process goes on as supervisord: signals for it, and its end, are the whole service's."""
    command = [sys.executable, "-m", "lobwife.web.supervisord", "--nodaemon", "--configuration", str(CONFIGURATION)]
    if os.getuid() == 0:
        command += ["--user", "0"]  # meant so; without it supervisord warns at each start
    environment = {name: value for name, value in os.environ.items() if name not in _FOR_THIS_PROCESS_ALONE}
    environment |= {
        "LOBWIFE_STATE_DIR": str(settings.STATE_DIR),
        "LOBWIFE_PYTHON": sys.executable,
        "LOBWIFE_DIRECTORY": str(settings.BASE_DIR),
        SUPERVISOR_VARIABLE: str(os.getpid()),
    }
    os.chdir(settings.BASE_DIR)  # where `-m` finds it, wherever this was started
    _make_stdout_openable()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted


def _make_stdout_openable() -> None:
    """supervisord opens /dev/stdout by name: where that is refused or would write over other lines, relay."""
    if _stdout_can_be_opened():
        return
    # In a session of its own, so that Ctrl-C leaves it there for the last words; it ends with its writers.
    relay = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)  # noqa: S607
    assert relay.stdin is not None  # noqa: S101 - for the type checker
    os.dup2(relay.stdin.fileno(), sys.stdout.fileno())
    os.dup2(relay.stdin.fileno(), sys.stderr.fileno())


def _stdout_can_be_opened() -> bool:
    """Not so for a socket and for another user's pipe; a file opened twice has two positions to write at."""
    if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        return False
    try:
        os.close(os.open("/dev/stdout", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
