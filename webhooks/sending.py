"""One call of a receiver: signed, to an address that is allowed, read to a bound within a deadline."""

from __future__ import annotations

import functools
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore2
import httpx2
from django.conf import settings
from standardwebhooks import Webhook

from core.errors import Invalid
from core.http import Backend, deadline
from core.text import one_line
from core.timestamps import utc_now
from webhooks import targets

SECONDS = 15.0
_MOST_BYTES = 1024
_UNREACHABLE = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, OSError, ValueError)


@dataclass(frozen=True)
class Answer:
    """What came of a call: an empty `error` is success."""

    status: int | None = None
    text: str = ""
    error: str = ""
    seconds: float = 0.0


def call(url: str, *, secret: str, message_id: str, body: str) -> Answer:
    """Send a body to a receiver. Raises nothing: what went wrong is in the answer."""
    began = time.monotonic()
    status, text = None, ""
    try:
        target = targets.resolve(url)
        with deadline(began + SECONDS):
            status, text = _exchange(target, url, _headers(secret, message_id, body), body.encode())
        problem = _problem(status)
    except Invalid as error:
        problem = str(error)
    except httpcore2.TimeoutException:
        problem = f"no answer within {SECONDS:.0f} s"
    except _UNREACHABLE as error:  # a library's sentence says less than its kind
        problem = f"it can't be reached ({type(error).__name__})"
    return Answer(status, text, problem, time.monotonic() - began)


def _headers(secret: str, message_id: str, body: str) -> dict[str, str]:
    now = utc_now()
    return {
        "content-type": "application/json",
        "user-agent": f"lobwife/{settings.VERSION}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, datetime.fromtimestamp(int(now.timestamp()), UTC), body),
    }


def _exchange(target: targets.Target, url: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    """Return the status and the beginning of the answer; the rest is not read, and the connection closed."""
    received = bytearray()
    with (
        httpcore2.ConnectionPool(ssl_context=_tls(), network_backend=Backend(target.address)) as pool,
        pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
    ):
        try:
            for chunk in response.iter_stream():
                received += chunk
                if len(received) >= _MOST_BYTES:
                    break
        except httpcore2.TimeoutException:
            if not 200 <= response.status < 300:  # its status is answer enough
                return response.status, _text(received)
            raise
    return response.status, _text(received)


@functools.lru_cache(maxsize=1)  # reading the certificates takes some 20 ms
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _text(received: bytearray) -> str:
    return one_line(bytes(received[:_MOST_BYTES]).decode(errors="replace"))


def _problem(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"it answered {status}: redirects are not followed"
    return f"it answered {status}"
