"""lobwife's REST, as scripts call it."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

TIMEOUT_SECONDS = 15
_PAUSES = (0.2, 0.5, 1, 2)
_PAGE = 500
_FRESH_SECONDS = 0.5
_MOST_BYTES = 64 * 2**20


class RestError(Exception):
    """No answer, or a refusal; the sentence is for people. `status` is 0 without an answer."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class Rest:
    """One connection that is kept; GETs are tried again when it breaks, writes only when they were never sent."""

    def __init__(self, url: str, credential: str = "") -> None:
        try:
            self._connection, self._prefix = _opened(url)
        except (ValueError, http.client.InvalidURL):  # the error's own words may hold a password
            raise RestError("LOBWIFE_URL must be an address such as http://127.0.0.1:8081") from None
        self._sent = False
        self._used = 0.0
        self._headers = {"Content-Type": "application/json"}
        if credential:
            self._headers["Authorization"] = f"Bearer {credential}"

    @classmethod
    def from_environment(cls) -> Rest:
        """By LOBWIFE_URL, with LOBWIFE_API_KEY or what the file LOBWIFE_TOKEN_PATH holds, if there is one."""
        return cls(os.environ.get("LOBWIFE_URL") or "http://127.0.0.1:8081", _credential())

    # --- calls
    def get(self, path: str, **query: Any) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def tasks(self, **query: Any) -> list[dict[str, Any]]:
        """All tasks of a status and type, newest first, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            before = found[-1]["id"] if found else None
            page = self.get("/api/v1/tasks", limit=_PAGE, before_id=before, **query)
            if not isinstance(page, list):
                raise RestError("lobwife answered something else than a list of tasks")
            found += page
            if len(page) < _PAGE:
                return found

    # --- the wire
    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        for pause in (*_PAUSES, None):
            self._sent = False
            try:
                status, content = self._send(method, path, data)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if pause is None or (self._sent and method != "GET"):
                    raise RestError(f"lobwife does not answer: {_words(error)}") from None
            else:
                if status != 503 or pause is None:
                    return _read(status, content, f"{method} {path.partition('?')[0]}")
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _send(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        idle = time.monotonic() - self._used
        if method != "GET" and idle > _FRESH_SECONDS:  # it may have been closed meanwhile: a write is not sent twice
            self._connection.close()
        if self._connection.sock is None:
            self._connection.connect()
        self._sent = True
        self._connection.request(method, self._prefix + path, data, self._headers)
        answer = self._connection.getresponse()
        content = answer.read(_MOST_BYTES)
        self._used = time.monotonic()
        return answer.status, content


def _opened(url: str) -> tuple[http.client.HTTPConnection, str]:
    """The connection, not made yet, and what paths begin with; raises ValueError or InvalidURL."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host.encode("idna") or not re.fullmatch(r"[!-~]*", parts.path):
        raise ValueError(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, parts.port, timeout=TIMEOUT_SECONDS), parts.path.rstrip("/")


def _read(status: int, content: bytes, call: str) -> Any:
    try:
        data = json.loads(content)
    except ValueError:
        raise RestError(f"{call}: lobwife answered {status} with something else than JSON", status) from None
    if status >= 400:
        sentence = data.get("error") if isinstance(data, dict) else None
        raise RestError(f"{call}: {status} {sentence or ''}".rstrip(), status)
    return data


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _credential() -> str:
    text = os.environ.get("LOBWIFE_API_KEY", "").strip()
    path = os.environ.get("LOBWIFE_TOKEN_PATH", "").strip()
    if not text and path:
        try:
            with open(path) as file:
                text = file.read(65536).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RestError(f"LOBWIFE_TOKEN_PATH can't be read: {_words(error)}") from None
    if text and not re.fullmatch(r"[!-~]+", text):
        raise RestError("the credential of LOBWIFE_API_KEY or LOBWIFE_TOKEN_PATH is not one word")
    return text
