"""HTTP to one lobwife: one request, or the same one again for as long as that does no harm.

A key goes to the address that was set and nowhere else: redirects are not followed, proxies are not asked.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from .errors import (
    BadSettings,
    Conflict,
    CursorGone,
    LobwifeError,
    NotFound,
    Refused,
    Unauthorized,
    Unreachable,
    Untrusted,
)

DEFAULT_URL = "http://127.0.0.1:8081"
TIMEOUT_SECONDS = 15.0  # of one try
RETRY_SECONDS = 60.0
MOST_BYTES = 32 * 2**20  # of an answer
_CREDENTIAL_BYTES = 65536
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 8.0
_TRY_AGAIN = (429, 503)  # what is answered so was not executed
_GATEWAY = (502, 504)  # may be a proxy's, before or after the request was executed
_ERRORS = {404: NotFound, 409: Conflict}
_LONGEST_SENTENCE = 500


class Answer(NamedTuple):
    """What came back. Names of headers are in lower case; `data` is the body's JSON, for `call` alone."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    data: Any = None


def is_address(url: str) -> bool:
    """Return whether a URL can be called at all."""
    try:
        parts = urlsplit(url)
        is_named = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        return False
    return is_named and parts.scheme in ("http", "https") and not re.search(r"[\x00-\x20\x7f]", url)


def read_credential(environment: Mapping[str, str] = os.environ) -> str:
    """Return LOBWIFE_API_KEY, else what the file LOBWIFE_TOKEN_PATH holds, else nothing; raises BadSettings."""
    text = environment.get("LOBWIFE_API_KEY", "").strip()
    path = environment.get("LOBWIFE_TOKEN_PATH", "").strip()
    if not text and path:
        try:
            with open(path, errors="replace") as file:
                text = file.read(_CREDENTIAL_BYTES).strip()
        except OSError as error:
            raise BadSettings(f"LOBWIFE_TOKEN_PATH can't be read: {error.strerror}") from None
    return check_credential(text)


def check_credential(text: str) -> str:
    """Return the credential; raises BadSettings for what can't be one."""
    if text and not re.fullmatch(r"[!-~]+", text):
        raise BadSettings("the credential of LOBWIFE_API_KEY or LOBWIFE_TOKEN_PATH is not one word")
    return text


class Transport:
    """Requests to one address. Threads may share it: each request has a connection of its own.

    `credential` is asked for each request, since files of Kubernetes' tokens change. `retry_seconds` is how long a call
    is tried again; with 0 it is tried once.
    """

    def __init__(
        self,
        url: str,
        credential: Callable[[], str],
        *,
        ca_file: str | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        if not is_address(url):
            raise BadSettings("LOBWIFE_URL must be an address such as http://127.0.0.1:8081")
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port
        self._prefix = parts.path.rstrip("/")
        self.credential = credential
        self.retry_seconds = retry_seconds
        self._tls = _tls(ca_file) if parts.scheme == "https" else None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool | None = None,
        unless: tuple[int, ...] = (),
        timeout: float = TIMEOUT_SECONDS,
    ) -> Answer:
        """Send a request until lobwife answers it, or the time to try is over; raises LobwifeError.

        Once it may have been executed, it is sent again only if it is repeatable: a GET, what has an Idempotency-Key,
        or what the caller says is. An answer of a status in `unless` is final where it names no time to wait.
        """
        sent = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
        wanted = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(wanted)}" if wanted else path
        data = None if body is None else json.dumps(body).encode()
        if is_repeatable is None:
            is_repeatable = method == "GET" or "Idempotency-Key" in sent
        pause, until = _FIRST_PAUSE, time.monotonic() + self.retry_seconds
        while True:
            failure: LobwifeError
            try:
                answer = self.send(method, target, data, sent, timeout=timeout)
            except Unreachable as error:
                failure = type(error)(f"lobwife does not answer: {error}", was_sent=error.was_sent)
                is_final = isinstance(error, Untrusted) or (error.was_sent and not is_repeatable)
            else:
                try:
                    return answer._replace(data=_read(answer, f"{method} {path}"))
                except Unreachable as error:
                    failure, is_final = error, error.was_sent and not is_repeatable
                except Refused as error:
                    failure = error
                    passes = error.status in _TRY_AGAIN or (error.status in _GATEWAY and is_repeatable)
                    is_final = not passes or (error.status in unless and error.retry_after is None)
            wait = max(pause * random.uniform(0.5, 1), failure.retry_after or 0)  # noqa: S311 no secret
            if is_final or time.monotonic() + wait > until:
                raise failure
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def send(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        most_bytes: int = MOST_BYTES,
    ) -> Answer:
        """Send one request, once, and return whatever answer there is; raises Unreachable, BadSettings."""
        credential = self.credential()
        own = {"Authorization": f"Bearer {credential}"} if credential else {}
        connection, deadline = self._connection(timeout), time.monotonic() + timeout
        stream, was_sent = None, False
        try:
            connection.connect()
            stream = _Stream(connection.sock, deadline)
            connection.sock = stream
            was_sent = True
            connection.request(
                method, self._prefix + target, body, {"User-Agent": "lobwife-client", **(headers or {}), **own}
            )
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, _body(response, most_bytes))
        except http.client.HTTPException:
            reason = "what is at LOBWIFE_URL does not answer in HTTP"
            raise Unreachable(reason, was_sent=was_sent) from None
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate is not trusted ({error.verify_message}); LOBWIFE_CA_FILE names an own authority"
            raise Untrusted(reason, was_sent=False) from None
        except (OSError, ValueError) as error:
            raise Unreachable(str(error) or type(error).__name__, was_sent=was_sent) from None
        finally:
            if stream is not None:
                stream.socket.close()
            connection.close()

    def _connection(self, timeout: float) -> Any:
        if self._tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self._tls)


class _Stream(io.RawIOBase):
    """The socket of a request, on which one deadline holds for all reads: its own time-out is for one read each."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self.socket = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._begin()
        return self.socket.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self._begin()
        self.socket.sendall(data)

    def makefile(self, *arguments: Any) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Leave the socket open: http.client closes it before the body is read."""

    def _begin(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.socket.settimeout(left)


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadSettings(f"LOBWIFE_CA_FILE can't be used: {error.strerror or error}") from None
    if ca_file:  # an own certificate is rarely made to the letter of RFC 5280, which Python 3.13 asks for
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _body(response: http.client.HTTPResponse, most_bytes: int) -> bytes:
    """Read the body; that of an error may be broken. Raises OSError, HTTPException, ValueError."""
    try:
        content = response.read(most_bytes + 1)
        if response.length and len(content) <= most_bytes:
            raise http.client.IncompleteRead(content, response.length)
    except (OSError, http.client.HTTPException):
        if response.status < 400:
            raise
        return b""
    if len(content) > most_bytes:
        raise ValueError(f"the answer is larger than {most_bytes} bytes")
    return content


def _read(answer: Answer, call: str) -> Any:
    """Return the JSON of an answer, None where it has no content; raises Unreachable, Refused."""
    if 300 <= answer.status < 400:
        raise Refused(f"{call}: {answer.status}, a redirect, which is not followed: check LOBWIFE_URL", answer.status)
    if answer.status == 204 or (answer.status == 202 and not answer.body):
        return None
    data, is_json = None, False
    with contextlib.suppress(ValueError, RecursionError):
        data, is_json = json.loads(answer.body), True
    if answer.status < 400 and is_json:
        return data
    sentence = f"{call}: {answer.status} {_sentence(data)}".rstrip()
    retry_after = _retry_after(answer.headers.get("retry-after", ""))
    error: Refused
    if answer.status == 401:
        error = Unauthorized(sentence, 401)
    elif not is_json:
        sentence = f"{call}: lobwife answered {answer.status} with something else than JSON"
        raise Unreachable(sentence, answer.status, retry_after, was_sent=answer.status not in _TRY_AGAIN)
    elif answer.status == 410 and isinstance(data, dict) and isinstance(data.get("next"), int):
        error = CursorGone(sentence, data["next"])
    else:
        error = _ERRORS.get(answer.status, Refused)(sentence, answer.status, retry_after)
    error.data = data
    raise error


def _sentence(data: Any) -> str:
    return printable(str(data.get("error") or data.get("message") or "")) if isinstance(data, dict) else ""


def _retry_after(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


def printable(text: str) -> str:
    """Return a sentence of the other side as one line that does a terminal no harm."""
    return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_SENTENCE]
