"""A GitHub of the tests' own: a real HTTP server with one App, one installation, its repositories and its tokens.

It checks what GitHub checks, and can be told to fail in each way that GitHub fails.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

APP_ID, INSTALLATION_ID = "4711", "815"
_LEVELS = ("read", "write", "admin")


@functools.cache
def private_key(number: int = 1) -> RSAPrivateKey:
    """A key of the test run; another number gives another key."""
    return generate_private_key(65537, 2048)


def pem(number: int = 1) -> str:
    made = private_key(number).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return made.decode()


def pem_base64(number: int = 1) -> str:
    return base64.encodebytes(pem(number).encode()).decode()  # with line breaks


@dataclass
class Token:
    """A token that was made."""

    text: str
    repositories: list[str] | None
    permissions: dict[str, str]
    expires: float
    revoked: bool = False


@dataclass
class Canned:
    """An answer to give instead of the right one."""

    status: int = 500
    body: bytes = b'{"message": "told to fail"}'
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    drip: bool = False
    drip_head: bool = False  # no end of headers


class GitHub:
    """Starts on a free port of this machine; `stop()` ends it."""

    def __init__(self, *, delay: float = 0) -> None:
        self.owner = "org"
        self.repositories = {"repo", "other", "vault"}
        self.granted = {"contents": "write", "pull_requests": "write", "metadata": "read", "issues": "write"}
        self.accepted_keys = [private_key(1)]
        self.delay = delay  # seconds before each answer about tokens
        self.clock_skew = 0.0  # seconds that this GitHub's clock is ahead
        self.lifetime = 3600.0
        self.tokens: list[Token] = []
        self.jwts: list[str] = []
        self.calls: list[str] = []
        self.spent: list[float] = []  # seconds that each call took here
        self.canned: list[Canned] = []  # the next answers, one each
        self.change: Callable[[dict[str, Any]], None] = lambda answer: None  # tampers with a minted token's answer
        self.gate = threading.Event()  # cleared, minting waits: a mint can be held in flight
        self.gate.set()
        self.minting = threading.Semaphore(0)  # released when a mint has arrived
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        self._server.request_queue_size = 128
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a lobwife use this GitHub."""
        return {
            "GITHUB_API_URL": self.url,
            "GH_APP_ID": APP_ID,
            "GH_APP_INSTALL_ID": INSTALLATION_ID,
            "GH_APP_PEM": pem_base64(1),
        }

    @property
    def mints(self) -> int:
        """How often a token was asked for."""
        return sum("access_tokens" in call for call in self.calls)

    @property
    def live(self) -> list[Token]:
        return [token for token in self.tokens if not token.revoked and token.expires > self.now()]

    def now(self) -> float:
        return time.time() + self.clock_skew

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Within, a mint that has arrived waits; `minting` can be waited for, which counts those that came since."""
        while self.minting.acquire(blocking=False):
            pass
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()

    def fail(self, *answers: Canned) -> None:
        self.canned.extend(answers)

    # --- what the handler asks
    def arrive(self, call: str) -> Canned | None:
        with self._lock:
            self.calls.append(call)
            return self.canned.pop(0) if self.canned else None

    def is_app(self, authorization: str) -> str | None:
        """None when the App signed it rightly, else GitHub's message."""
        text = authorization.removeprefix("Bearer ")
        self.jwts.append(text)
        for key in self.accepted_keys:
            try:
                claims = jwt.decode(
                    text, key.public_key(), algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}
                )
            except jwt.InvalidTokenError:
                continue
            if claims["iss"] != APP_ID:
                return "A JSON web token could not be decoded: wrong iss"
            if claims["iat"] > self.now() + 5:
                return (
                    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
                )
            if claims["exp"] <= self.now():
                return "'Expiration time' claim ('exp') must be a numeric value representing the future time"
            if claims["exp"] > self.now() + 600:
                return "'Expiration time' claim ('exp') is too far in the future"
            return None
        return "A JSON web token could not be decoded"

    def mint(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked = body.get("permissions") or dict(self.granted)
        for name, level in asked.items():
            granted = self.granted.get(name)
            if granted is None or _LEVELS.index(level) > _LEVELS.index(granted):
                return 422, {"message": "The permissions requested are not granted to this installation."}
        names = body.get("repositories") or None  # an empty list is every repository: so is GitHub
        known = {name.lower(): name for name in self.repositories}
        if names is not None and (len(names) > 500 or any(name.lower() not in known for name in names)):
            return 422, {"message": "There is at least one repository that does not exist or is not accessible."}
        chosen = None if names is None else [known[name.lower()] for name in names]
        text = f"ghs_{APP_ID}_{secrets.token_urlsafe(380)}"
        token = Token(text, chosen, asked | {"metadata": "read"}, self.now() + self.lifetime)
        with self._lock:
            self.tokens.append(token)
        answer: dict[str, Any] = {
            "token": text,
            "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(token.expires)),
            "permissions": token.permissions,
            "repository_selection": "all" if chosen is None else "selected",
        }
        if chosen is not None:
            answer["repositories"] = [{"name": name, "full_name": f"{self.owner}/{name}"} for name in chosen]
        self.change(answer)
        return 201, answer

    def token(self, authorization: str) -> Token | None:
        text = authorization.partition(" ")[2]
        return next((token for token in self.live if token.text == text), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out at once

    def __init__(self, github: GitHub, *arguments: Any) -> None:
        self.github = github
        super().__init__(*arguments)

    def log_message(self, *arguments: Any) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(self.github.now(), usegmt=True)

    def do_GET(self) -> None:
        started = time.perf_counter()
        self._handle()
        self.github.spent.append(time.perf_counter() - started)

    do_POST = do_DELETE = do_GET

    def _handle(self) -> None:
        github = self.github
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        canned = github.arrive(f"{self.command} {self.path}")
        if github.delay:
            time.sleep(github.delay)
        if canned is not None:
            self._give(canned)
            return
        authorization = self.headers.get("Authorization", "")
        if self.command == "DELETE" and self.path == "/installation/token":
            self._revoke(authorization)
            return
        message = github.is_app(authorization)
        if message:
            self._json(401, {"message": message})
        elif self.path == f"/app/installations/{INSTALLATION_ID}" and self.command == "GET":
            self._json(200, {"id": int(INSTALLATION_ID), "account": {"login": github.owner, "type": "Organization"}})
        elif self.path == f"/app/installations/{INSTALLATION_ID}/access_tokens" and self.command == "POST":
            github.minting.release()
            github.gate.wait(20)
            status, answer = github.mint(json.loads(body or b"{}"))
            self._json(status, answer)
        else:
            self._json(404, {"message": "Not Found"})

    def _revoke(self, authorization: str) -> None:
        token = self.github.token(authorization)
        if token is None:
            self._json(401, {"message": "Bad credentials"})
            return
        token.revoked = True
        self.send_response(204)
        self.end_headers()

    def _drip_head(self) -> None:
        self.close_connection = True
        try:
            self.wfile.write(b"HTTP/1.1 201 Created\r\n")
            for _ in range(200):
                self.wfile.write(b"X-More: to come\r\n")
                time.sleep(0.2)
        except OSError:
            pass

    def _json(self, status: int, data: Any) -> None:
        self._give(Canned(status, json.dumps(data).encode(), {"Content-Type": "application/json"}))

    def _give(self, canned: Canned) -> None:
        if canned.close:
            self.close_connection = True
            self.connection.close()
            return
        if canned.drip_head:
            self._drip_head()
            return
        self.send_response(canned.status)
        limits = {"x-ratelimit-remaining": "4999", "x-ratelimit-reset": str(int(self.github.now()) + 3600)}
        for name, value in {**limits, **canned.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(canned.body)))
        self.end_headers()
        try:
            for start in range(0, len(canned.body), 1 if canned.drip else max(1, len(canned.body))):
                self.wfile.write(canned.body[start : start + 1] if canned.drip else canned.body)
                if canned.drip:
                    time.sleep(0.2)
        except OSError:
            self.close_connection = True
