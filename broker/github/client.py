"""GitHub's API as a GitHub App: sign, mint, revoke, read the installation. Nothing here touches the database."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore2
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from django.conf import settings

from broker.github import app, transport
from core.errors import Unavailable, Upstream
from core.http import deadline

_UNREACHABLE = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError, httpcore2.UnsupportedProtocol)
_ATTEMPTS = 3
_PAUSES = (0.1, 0.3)
_LONGEST_ATTEMPT = 3.0
_LEAST_ATTEMPT = 0.3
_MOST_BYTES = 2**20
_SECONDARY_LIMIT_SECONDS = 60
# GitHub counts by the hour: one odd answer is no reason to stay away for ever.
_LONGEST_WAIT_SECONDS = 3600
_LARGEST_SKEW_SECONDS = 100 * 365 * 86400  # beyond it is no clock
_SECRETS = re.compile(r"gh[a-z]_\S+|github_pat_\S+|eyJ\S+")
_LONGEST_MESSAGE = 200


class GitHubRefuses(Unavailable):
    """GitHub understood and said no; asking again changes nothing."""


class GitHubDown(Unavailable):
    """No usable answer within the bound: time-out, broken connection, 5xx. `slow` says that time ran out."""

    def __init__(self, sentence: str, *, slow: bool = False) -> None:
        super().__init__(sentence, retry_after=5)
        self.slow = slow


class RateLimited(Unavailable):
    """GitHub said to wait for `retry_after` seconds."""


class GitHubGarbage(Upstream):
    """An answer that GitHub doesn't give: a redirect, no JSON, something missing."""


@dataclass(frozen=True)
class Answer:
    """An answer of GitHub, its JSON decoded: None when it has none."""

    status: int
    headers: Mapping[str, str]
    data: Any

    @property
    def message(self) -> str:
        """The message and errors of its body, in one line without anything that looks like a credential."""
        data = self.data if isinstance(self.data, dict) else {}
        errors = data.get("errors")
        details = [e.get("message") if isinstance(e, dict) else e for e in errors] if isinstance(errors, list) else []
        text = "; ".join(part for part in (data.get("message"), *details) if isinstance(part, str))
        return _SECRETS.sub("[removed]", " ".join(text.split()))[:_LONGEST_MESSAGE]

    def number(self, header: str) -> int | None:
        """Return a header that is a number; None when it is missing or something else."""
        text = self.headers.get(header, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


@dataclass(frozen=True)
class Minted:
    """A new token and GitHub's answer about it. Its repr keeps the token to itself."""

    token: str = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    rate_left: int | None
    rate_reset: int | None


class GitHub:
    """The App's installation. `clock_skew` is in seconds, positive when GitHub's clock is ahead; it is learnt."""

    def __init__(
        self, url: str, app_id: str, installation_id: str, keys: Sequence[RSAPrivateKey], clock_skew: int = 0
    ) -> None:
        self.url = url.rstrip("/")
        self.app_id = app_id
        self.installation_id = installation_id
        self.keys = keys
        self.clock_skew = clock_skew

    @classmethod
    def configured(cls) -> GitHub:
        """Return the installation as the settings name it; raises Unavailable with what is missing."""
        keys = app.configured()
        return cls(settings.GITHUB_API_URL, settings.GH_APP_ID, settings.GH_APP_INSTALL_ID, keys)

    @classmethod
    def without_key(cls) -> GitHub:
        """Return GitHub for revoking, which needs no key of the App; raises Unavailable for an unsafe address."""
        if not app.is_safe_url(settings.GITHUB_API_URL):
            raise Unavailable("GITHUB_API_URL must begin with https://")
        return cls(settings.GITHUB_API_URL, settings.GH_APP_ID, settings.GH_APP_INSTALL_ID, [])

    def mint(self, repositories: Sequence[str] | None, permissions: Mapping[str, str], *, until: float) -> Minted:
        """Make a token for these repositories, or for all of them when None; `until` is a monotonic time.

        Raises GitHubRefuses, GitHubDown, RateLimited, GitHubGarbage.
        """
        body: dict[str, Any] = {"permissions": dict(permissions)}
        if repositories is not None:
            if not repositories:  # GitHub would take an empty list for every repository
                raise ValueError("a token for no repositories was asked for")
            body["repositories"] = list(repositories)
        answer = self._as_app("POST", f"/app/installations/{self.installation_id}/access_tokens", body, until)
        token = answer.data.get("token") if isinstance(answer.data, dict) else None
        if answer.status != 201 or not isinstance(token, str) or not re.fullmatch(r"[!-~]{1,8000}", token):
            raise GitHubGarbage(f"GitHub's answer ({answer.status}) holds no token")
        return Minted(token, answer.data, answer.number("x-ratelimit-remaining"), answer.number("x-ratelimit-reset"))

    def owner(self, *, until: float) -> str:
        """Return the login of the installation's account; raises as mint does."""
        data = self._as_app("GET", f"/app/installations/{self.installation_id}", None, until).data
        account = data.get("account") if isinstance(data, dict) else None
        login = account.get("login") if isinstance(account, dict) else None
        if not isinstance(login, str) or not login:
            raise GitHubGarbage("GitHub's answer does not say whose the installation is")
        return login

    def revoke(self, token: str, *, until: float) -> None:
        """End a token; one that is gone already counts as ended. Raises as mint does."""
        answer = self._send("DELETE", "/installation/token", f"token {token}", None, until)
        if answer.status not in {204, 401}:
            raise _failure(answer, "revoking a token")

    def _as_app(self, method: str, path: str, body: Any, until: float) -> Answer:
        """Make a call signed with the first key that GitHub accepts; once per key the clock is set by GitHub's."""
        for key in self.keys:
            answer = self._send(method, path, f"Bearer {self._signed(key)}", body, until)
            if answer.status == 401 and self._learn_skew(answer):
                answer = self._send(method, path, f"Bearer {self._signed(key)}", body, until)
            if answer.status != 401:
                self._learn_skew(answer)  # a clock that is a few minutes slow is not refused, and yet counts
                break
        if answer.status not in {200, 201}:
            raise _failure(answer, "asked as the App")
        return answer

    def _signed(self, key: RSAPrivateKey) -> str:
        now = int(time.time()) + self.clock_skew
        return jwt.encode({"iat": now - 60, "exp": now + 540, "iss": self.app_id}, key, algorithm="RS256")

    def _learn_skew(self, answer: Answer) -> bool:
        """Remember how far GitHub's clock is ahead; returns whether that is new."""
        theirs = _date(answer)
        skew = round(theirs - time.time()) if theirs is not None else None
        if skew is None or abs(skew) > _LARGEST_SKEW_SECONDS:
            return False
        changed = abs(skew - self.clock_skew) > 1
        self.clock_skew = skew
        return changed

    def _send(self, method: str, path: str, authorization: str, body: Any, until: float) -> Answer:
        """Make a call, repeated after 5xx and broken connections while there is time."""
        headers = {
            "Authorization": authorization,
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": "lobwife",
        }
        failure = GitHubDown("GitHub was not asked: no time is left", slow=True)
        for attempt in range(_ATTEMPTS):
            left = until - time.monotonic()
            if left < _LEAST_ATTEMPT:
                break
            try:
                answer = _exchange(self.url, method, path, headers, body, min(left, _LONGEST_ATTEMPT))
            except httpcore2.TimeoutException:
                failure = GitHubDown("GitHub did not answer in time", slow=True)
                continue
            except (*_UNREACHABLE, ValueError) as error:
                # The library's sentence may quote the request; the kind of the error is enough.
                failure = GitHubDown(f"GitHub can't be reached ({type(error).__name__})")
            else:
                if answer.status < 500:
                    return answer
                failure = GitHubDown(f"GitHub failed ({answer.status})")
            if attempt < len(_PAUSES):
                time.sleep(min(_PAUSES[attempt], max(0.0, until - time.monotonic())))
        raise failure from None


def _exchange(url: str, method: str, path: str, headers: Mapping[str, str], body: Any, seconds: float) -> Answer:
    """Make one request and read its whole answer within `seconds`. Redirects would carry the credential along."""
    content = orjson.dumps(body) if body is not None else None
    fields = [*headers.items(), ("Content-Type", "application/json")]
    waiting = {"timeout": {"pool": seconds}}
    received = bytearray()
    with (
        deadline(time.monotonic() + seconds),
        _pool(url).stream(method, url + path, headers=fields, content=content, extensions=waiting) as response,
    ):
        for chunk in response.iter_stream():
            received += chunk
            if len(received) > _MOST_BYTES:
                raise GitHubGarbage("GitHub's answer is too long")
    try:
        data = orjson.loads(bytes(received)) if received else None
    except orjson.JSONDecodeError:
        data = None
    return Answer(response.status, {k.decode().lower(): v.decode("latin-1") for k, v in response.headers}, data)


@functools.lru_cache(maxsize=4)
def _pool(url: str) -> httpcore2.ConnectionPool:
    return transport.connection_pool(url)


def _date(answer: Answer) -> float | None:
    """Return GitHub's clock when it answered; None when that can't be read."""
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _failure(answer: Answer, doing: str) -> Unavailable | Upstream:
    """Return the error that an unexpected answer stands for."""
    text = f": {answer.message}" if answer.message else ""
    status = answer.status
    if status in {403, 429}:
        wait = _seconds_to_wait(answer)
        if wait is not None:
            return RateLimited(f"GitHub's rate limit is reached ({status}){text}", retry_after=wait)
        return GitHubRefuses(f"GitHub refuses ({status}){text}")
    if status == 401:
        return GitHubRefuses(f"GitHub does not take the App's key (401){text}; check GH_APP_ID and GH_APP_PEM")
    if status == 404:
        return GitHubRefuses(f"GitHub does not know the App's installation (404){text}; check GH_APP_INSTALL_ID")
    if status == 422:
        return GitHubRefuses(
            f"GitHub does not grant this (422){text}; the App needs access to every repository and permission asked for"
        )
    if 300 <= status < 400:
        return GitHubGarbage(f"GitHub answered with a redirect ({status}), which is not followed; check GITHUB_API_URL")
    return GitHubGarbage(f"GitHub answered {status} when {doing}{text}")


def _seconds_to_wait(answer: Answer) -> int | None:
    """Return the seconds that a 403 or 429 says to wait; None when it is not about a limit."""
    after = answer.number("retry-after")
    if after is not None:
        return min(max(1, after), _LONGEST_WAIT_SECONDS)
    if answer.number("x-ratelimit-remaining") == 0:
        reset = answer.number("x-ratelimit-reset")
        if reset is None:
            return _SECONDARY_LIMIT_SECONDS
        now = _date(answer) or time.time()  # the reset is told by GitHub's clock
        return min(max(1, round(reset - now)), _LONGEST_WAIT_SECONDS)
    if answer.status == 429 or "secondary rate limit" in answer.message.lower():
        return _SECONDARY_LIMIT_SECONDS
    return None
