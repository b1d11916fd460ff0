"""Asking lobwife's broker for a GitHub token: what `gh` and `git-credential-lobwife` beside this file share.

Standard library only. Which token: TASK_ID, else SERVICE_NAME, else that of the service lobwife. Where: LOBWIFE_URL.
The caller's own credential, when it has one: LOBWIFE_API_KEY, else the content of the file LOBWIFE_TOKEN_PATH. Nothing
secret is ever put into an argument.
"""

import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT_SECONDS = 12
MOST_BYTES = 65536
SERVICE = "lobwife"
NOT_CONFIGURED = "Token broker not configured"


class NoBroker(Exception):
    """There is no broker to ask: no address, no answer, or no GitHub App behind it."""


class Refused(Exception):
    """The broker gave no token; the sentence says why."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the credential along: it ends as the error that it is here."""

    def redirect_request(self, *arguments):
        return None


def ask(environment=os.environ):
    """(token, expires_at) from the broker; raises NoBroker or Refused."""
    url = environment.get("LOBWIFE_URL", "").strip().rstrip("/")
    if not url:
        raise NoBroker("LOBWIFE_URL is not set")
    if not is_address(url):
        raise Refused("LOBWIFE_URL must be an address that begins with http:// or https://")
    path, body = what(environment)
    headers = {"Content-Type": "application/json", **credential(environment)}
    data = json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers, method="POST")  # noqa: S310 the scheme was checked
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects)
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return read_token(response.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        sentence = reason(error)
        if error.code == 503 and sentence.startswith(NOT_CONFIGURED):
            raise NoBroker(sentence) from None
        raise Refused(sentence) from None
    except (OSError, ValueError) as error:
        raise NoBroker(f"the broker can't be reached: {getattr(error, 'reason', error)}") from None
    except http.client.HTTPException:
        raise NoBroker("the broker can't be reached: what is at LOBWIFE_URL does not answer in HTTP") from None


def is_address(url):
    """Return True when it can be called at all."""
    try:
        parts = urllib.parse.urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and parts.scheme in ("http", "https") and not re.search(r"[\x00-\x20\x7f]", url)


def what(environment):
    """The route and body for the task or service that the environment names."""
    task, service = environment.get("TASK_ID", "").strip(), environment.get("SERVICE_NAME", "").strip()
    if task:
        return "/api/token", {"task_id": task}
    return "/api/v1/service-token", {"service": service or SERVICE}


def credential(environment):
    """The Authorization header, empty when the caller has no credential."""
    text = environment.get("LOBWIFE_API_KEY", "").strip()
    path = environment.get("LOBWIFE_TOKEN_PATH", "").strip()
    if not text and path:
        try:
            with open(path, errors="replace") as file:
                text = file.read(MOST_BYTES).strip()
        except OSError as error:
            raise Refused(f"LOBWIFE_TOKEN_PATH can't be read: {error.strerror}") from None
    if not text:
        return {}
    if not re.fullmatch(r"[!-~]+", text):
        raise Refused("the credential of LOBWIFE_API_KEY or LOBWIFE_TOKEN_PATH is not one word")
    return {"Authorization": "Bearer " + text}


def read_token(content):
    """Read the body of a 200; anything but a token in one printable word is refused."""
    try:
        answer = json.loads(content)
        token, expires_at = answer["token"], answer["expires_at"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused("the broker's answer holds no token") from None
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token) or not isinstance(expires_at, str):
        raise Refused("the broker's answer holds no token")
    return token, expires_at


def reason(error):
    """The broker's sentence, in one printable line."""
    try:
        sentence = json.loads(error.read(MOST_BYTES))["error"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, RecursionError):
        sentence = ""
    line = "".join(c if c.isprintable() else " " for c in str(sentence))[:500]
    return line or f"the broker answered {error.code}"
