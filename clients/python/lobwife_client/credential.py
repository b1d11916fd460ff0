"""A credential helper for git: tokens of lobwife's broker, for https and one host only.

    git config --global credential.https://github.com.helper lobwife

The host is LOBWIFE_GIT_HOST, else github.com. Other hosts and protocols are left to other helpers; `store` and `erase`
do nothing, because nothing is kept. Which token: that of TASK_ID, else of the service SERVICE_NAME, else of the service
lobwife. Where: LOBWIFE_URL. The caller's own credential, when it has one: LOBWIFE_API_KEY, else the content of the file
LOBWIFE_TOKEN_PATH. Nothing secret is ever put into an argument.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Mapping

from .errors import BadSettings, Unreachable
from .transport import Transport, is_address, printable, read_credential

_TIMEOUT_SECONDS = 12
_MOST_BYTES = 65536
_SERVICE = "lobwife"
_NOT_CONFIGURED = "Token broker not configured"
_ONCE = ("protocol", "host", "path", "username", "password", "url")


class NoBroker(Exception):
    """There is no broker to ask: no address, no answer, or no GitHub App behind it."""


class NoToken(Exception):
    """The broker gave no token; the sentence says why."""


class Hostile(Exception):
    """The input is not what git writes."""


def main() -> int:
    """Answer git; return the exit code."""
    if sys.argv[1:] != ["get"]:
        return 0 if sys.argv[1:] in (["store"], ["erase"]) else 2
    try:
        asked = read(sys.stdin.buffer.read(_MOST_BYTES + 1))
        host = os.environ.get("LOBWIFE_GIT_HOST") or "github.com"
        if asked.get("protocol") != "https" or asked.get("host", "").lower() != host.lower():
            return 0
        token, expires_at = ask(os.environ)
    except (Hostile, NoToken, NoBroker) as error:
        print(f"git-credential-lobwife: {error}", file=sys.stderr)
        return 1
    lines = ["username=x-access-token", "password=" + token, *expiry(expires_at)]
    print("\n".join(lines) + "\n")
    return 0


def read(content: bytes) -> dict[str, str]:
    """Return git's `key=value` lines; raises Hostile."""
    if len(content) > _MOST_BYTES or b"\0" in content or b"\r" in content:
        raise Hostile("this is not how git asks")
    asked: dict[str, str] = {}
    for line in content.decode(errors="replace").split("\n"):
        if not line:
            break
        key, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[a-z_]+(\[\])?", key) or (key in _ONCE and key in asked) or key == "url":
            raise Hostile("this is not how git asks")
        asked[key] = value
    return asked


def expiry(text: str) -> list[str]:
    """Return the line that tells git when the password ends; none when that can't be read."""
    try:
        seconds = int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError):
        return []
    return [f"password_expiry_utc={seconds}"]


def ask(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return a token and when it expires, asking once; raises NoBroker, NoToken."""
    url = environment.get("LOBWIFE_URL", "").strip().rstrip("/")
    if not url:
        raise NoBroker("LOBWIFE_URL is not set")
    if not is_address(url):
        raise NoToken("LOBWIFE_URL must be an address that begins with http:// or https://")
    path, body = _request(environment)
    ca_file = environment.get("LOBWIFE_CA_FILE", "").strip() or None
    try:
        transport = Transport(url, lambda: read_credential(environment), ca_file=ca_file)
        answer = transport.send(
            *("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"}),
            timeout=_TIMEOUT_SECONDS,
            most_bytes=_MOST_BYTES,
        )
    except BadSettings as error:
        raise NoToken(str(error)) from None
    except Unreachable as error:
        raise NoBroker(f"the broker can't be reached: {error}") from None
    if answer.status == 200:
        return _read_token(answer.body)
    sentence = _sentence(answer.body) or f"the broker answered {answer.status}"
    if answer.status == 503 and sentence.startswith(_NOT_CONFIGURED):
        raise NoBroker(sentence)
    raise NoToken(sentence)


def _request(environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the route and body for the task or service that the environment names."""
    task, service = environment.get("TASK_ID", "").strip(), environment.get("SERVICE_NAME", "").strip()
    if task:
        return "/api/token", {"task_id": task}
    return "/api/v1/service-token", {"service": service or _SERVICE}


def _read_token(content: bytes) -> tuple[str, str]:
    """Read the body of a 200; anything but a token in one printable word is refused."""
    try:
        answer = json.loads(content)
        token, expires_at = answer["token"], answer["expires_at"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NoToken("the broker's answer holds no token") from None
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token) or not isinstance(expires_at, str):
        raise NoToken("the broker's answer holds no token")
    return token, expires_at


def _sentence(content: bytes) -> str:
    try:
        return printable(str(json.loads(content)["error"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
