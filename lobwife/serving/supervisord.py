"""supervisord for the foreground: it ends with its terminal, where the stock one would start everything again."""

from __future__ import annotations

import signal

from supervisor.options import ServerOptions
from supervisor.supervisord import go


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


def main() -> None:
    options = ForegroundOptions()
    options.realize(doc=__doc__)
    options.first = True
    options.test = False
    go(options)
    options.close_httpservers()
    options.close_logger()


if __name__ == "__main__":
    main()
