"""lobwife's REST, as scripts call it."""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import httpx2

TIMEOUT_SECONDS = 15
_PAUSES = (0.2, 0.5, 1, 2)
_PAGE = 500
_FRESH_SECONDS = 0.5


class RestError(Exception):
    """No answer, or a refusal; the sentence is for people. `status` is 0 without an answer."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class Rest:
    """A client of lobwife. GETs are tried again when a connection breaks, writes only when they were never sent."""

    def __init__(self, url: str, credential: str = "") -> None:
        if not is_address(url):
            raise RestError("LOBWIFE_URL must be an address such as http://127.0.0.1:8081")
        self._client = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {credential}"} if credential else {},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            verify=ssl.create_default_context(),
            limits=httpx2.Limits(keepalive_expiry=_FRESH_SECONDS),  # an older connection may be closed by now
        )

    @classmethod
    def from_environment(cls) -> Rest:
        """Make a client of LOBWIFE_URL, with LOBWIFE_API_KEY or what the file LOBWIFE_TOKEN_PATH holds."""
        return cls(os.environ.get("LOBWIFE_URL") or "http://127.0.0.1:8081", _credential())

    # --- calls
    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path, query={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def tasks(self, **query: Any) -> list[dict[str, Any]]:
        """Return all tasks of a status and type, newest first, page by page."""
        tasks: list[dict[str, Any]] = []
        while True:
            before = tasks[-1]["id"] if tasks else None
            page = self.get("/api/v1/tasks", limit=_PAGE, before_id=before, **query)
            if not isinstance(page, list):
                raise RestError("lobwife answered something else than a list of tasks")
            tasks += page
            if len(page) < _PAGE:
                return tasks

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> Any:
        for pause in (*_PAUSES, None):
            try:
                response = self._client.request(method, path, json=body, params=query)
            except httpx2.RequestError as error:
                was_sent = not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                if pause is None or (was_sent and method != "GET"):
                    raise RestError(f"lobwife does not answer: {str(error) or type(error).__name__}") from None
            else:
                if response.status_code != 503 or pause is None:
                    return _read(response.status_code, response.content, f"{method} {path}")
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")


def is_address(url: str) -> bool:
    """Return whether a URL can be called; errors of libraries would name its password."""
    try:
        parts = urlsplit(url)
        httpx2.URL(url)
        return parts.scheme in ("http", "https") and bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except (ValueError, httpx2.InvalidURL):
        return False


def _read(status: int, content: bytes, call: str) -> Any:
    try:
        data = json.loads(content)
    except ValueError:
        raise RestError(f"{call}: lobwife answered {status} with something else than JSON", status) from None
    if status >= 400:
        sentence = data.get("error") if isinstance(data, dict) else None
        raise RestError(f"{call}: {status} {sentence or ''}".rstrip(), status)
    return data


def _credential() -> str:
    text = os.environ.get("LOBWIFE_API_KEY", "").strip()
    path = os.environ.get("LOBWIFE_TOKEN_PATH", "").strip()
    if not text and path:
        try:
            with open(path) as file:
                text = file.read(65536).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RestError(f"LOBWIFE_TOKEN_PATH can't be read: {reason}") from None
    if text and not re.fullmatch(r"[!-~]+", text):
        raise RestError("the credential of LOBWIFE_API_KEY or LOBWIFE_TOKEN_PATH is not one word")
    return text
