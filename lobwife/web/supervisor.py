"""supervisord, which keeps web and daemon running in the foreground: handing over to it, and its own process."""

from __future__ import annotations

import logging
import os
import pathlib
import signal
import stat
import subprocess
import sys
from typing import Any, NoReturn

from django.conf import settings
from supervisor import loggers
from supervisor.options import ServerOptions
from supervisor.supervisord import go

from core import logs
from core.processes import SUPERVISOR_VARIABLE
from lobwife.web.preflight import OPERATOR_VARIABLES

MODULE = "lobwife.web.supervisor"
log = logging.getLogger("supervisord")


class SharedHandler(loggers.Handler):  # type: ignore[misc]  # the package has no types
    """Passes supervisord's messages on to the log that web and daemon write, in its format."""

    def emit(self, record: Any) -> None:
        log.log(record.level, "%s", record.asdict()["message"])

    def close(self) -> None:
        """The stream is the process's."""

    reopen = remove = close


class ForegroundOptions(ServerOptions):  # type: ignore[misc]  # the package has no types
    """Ends with its terminal, where the stock supervisord would start everything again; under nohup it stays."""

    def __init__(self) -> None:
        super().__init__()
        self.ignores_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN

    def get_signal(self) -> int | None:
        number: int | None = super().get_signal()
        if number == signal.SIGHUP:
            return None if self.ignores_hangup else signal.SIGTERM
        return number

    def make_logger(self) -> None:
        self.logger = loggers.getLogger(self.loglevel)
        self.logger.addHandler(SharedHandler())
        for write, messages in (
            (self.logger.critical, self.parse_criticals),
            (self.logger.warn, self.parse_warnings),
            (self.logger.info, self.parse_infos),
        ):
            for message in messages:
                write(message)


def become_supervisor() -> NoReturn:
    """Replace this process by supervisord: signals to it, and its end, are the whole service's."""
    configuration = pathlib.Path(settings.BASE_DIR) / "deploy" / "supervisord.conf"
    command = [sys.executable, "-m", MODULE, "--nodaemon", "--configuration", str(configuration)]
    if os.getuid() == 0:
        command += ["--user", "0"]  # intended; without it supervisord warns at each start
    environment = {name: value for name, value in os.environ.items() if name not in OPERATOR_VARIABLES}
    environment |= {
        "LOBWIFE_STATE_DIR": str(settings.STATE_DIR),
        "LOBWIFE_PYTHON": sys.executable,
        "LOBWIFE_DIRECTORY": str(settings.BASE_DIR),
        SUPERVISOR_VARIABLE: str(os.getpid()),
    }
    os.chdir(settings.BASE_DIR)  # where `-m` finds the module, wherever this was started
    _make_stdout_openable()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted


def _make_stdout_openable() -> None:
    """Put `cat` between where opening /dev/stdout by name, as supervisord does, is refused or overwrites lines."""
    if _stdout_can_be_opened():
        return
    # In a session of its own, so that Ctrl-C leaves it there for the last lines; it ends with its writers.
    cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)  # noqa: S607
    assert cat.stdin is not None  # noqa: S101 - for the type checker
    os.dup2(cat.stdin.fileno(), sys.stdout.fileno())
    os.dup2(cat.stdin.fileno(), sys.stderr.fileno())


def _stdout_can_be_opened() -> bool:
    """False for a socket, for another user's pipe, and for a file, which opened twice has two positions to write at."""
    if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        return False
    try:
        os.close(os.open("/dev/stdout", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def main() -> None:
    logs.configure()
    options = ForegroundOptions()
    options.realize(doc=__doc__)
    options.first = True
    options.test = False
    go(options)
    options.close_httpservers()
    options.close_logger()


if __name__ == "__main__":
    main()
