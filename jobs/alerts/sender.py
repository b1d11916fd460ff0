"""Send alerts: a program of its own, since what it imports takes more memory than all the rest of an idle daemon.

On stdin it gets lines of JSON, each with an id, a URL, a title, a body and a kind; for each it answers a line with the
id and an error, which is empty when the alert was sent. No URL ever leaves it but to where it points.
"""

from __future__ import annotations

import ctypes
import json
import logging
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, local

import apprise

_PR_SET_PDEATHSIG = 1
_SIDE_BY_SIDE = 8
_STATUS = re.compile(r"error=(\d{3})\b")
# A receiver must not send this program elsewhere: to lobwife's own API it is a local program, an operator.
_ASSET = apprise.AppriseAsset(http_redirects=False)
_writing = Lock()
_told = local()


class Overhear(logging.Handler):
    """Keeps what apprise says of a failure, per thread: it may hold secrets, so only parts that we know are used."""

    def emit(self, record: logging.LogRecord) -> None:
        _told.text = f"{getattr(_told, 'text', '')} {record.getMessage()}"


def send(order: dict[str, str]) -> str:
    """Send one alert; returns why it could not be, or an empty text."""
    _told.text = ""
    # Not through apprise.Apprise, which would send in a thread of its own, where what it says is not overheard.
    sender = apprise.Apprise.instantiate(order["url"], asset=_ASSET)
    if not isinstance(sender, apprise.NotifyBase):
        return "apprise does not understand the URL"
    if sender.notify(title=order["title"], body=order["body"], notify_type=apprise.NotifyType(order["kind"])):
        return ""
    status = _STATUS.search(_told.text)
    if status and status[1] != "000":
        return f"the destination answered {status[1]}"
    return "the destination could not be reached, or refused it"


def handle(line: str) -> None:
    order = json.loads(line)
    try:
        error = send(order)
    except Exception as raised:  # a plugin may raise anything; its text may hold the URL
        error = f"apprise failed with {type(raised).__name__}"
    with _writing:
        print(json.dumps({"id": order["id"], "error": error}), flush=True)


def main() -> int:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    logger = logging.getLogger("apprise")
    logger.handlers = [Overhear()]
    logger.propagate = False
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(handle, sys.stdin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
