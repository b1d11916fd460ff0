"""supervisord for the foreground: it ends with its terminal, where the stock one would start everything again."""

from __future__ import annotations

import logging
import signal
from typing import Any

from supervisor import loggers
from supervisor.options import ServerOptions
from supervisor.supervisord import go

from core import logs

log = logging.getLogger("supervisord")


class SharedHandler(loggers.Handler):  # type: ignore[misc]  # the package has no types
    """Hands on what supervisord says to the log that web and daemon write, in its format."""

    def emit(self, record: Any) -> None:
        log.log(record.level, "%s", record.asdict()["message"])

    def close(self) -> None:
        """The stream is the process's."""

    reopen = remove = close


class ForegroundOptions(ServerOptions):  # type: ignore[misc]  # the package has no types
    """A hang-up is a request to end, or nothing under nohup."""

    def __init__(self) -> None:
        super().__init__()
        self.outlives_terminal = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN

    def get_signal(self) -> int | None:
        number: int | None = super().get_signal()
        if number == signal.SIGHUP:
            return None if self.outlives_terminal else signal.SIGTERM
        return number

    def make_logger(self) -> None:
        self.logger = loggers.getLogger(self.loglevel)
        self.logger.addHandler(SharedHandler())
        for tell, messages in (
            (self.logger.critical, self.parse_criticals),
            (self.logger.warn, self.parse_warnings),
            (self.logger.info, self.parse_infos),
        ):
            for message in messages:
                tell(message)


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
