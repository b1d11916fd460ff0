"""Columns of jobs that hold secrets, which leave the model masked: URLs of alerts and watchdogs, and variables.

Whoever knows such a URL can write there. Variables should hold no secret, but somebody's hand may have left one there.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import urlsplit

from core.errors import Invalid
from jobs.models import Job
from jobs.secrets import mask_environment

URLS = ("alert_urls", "ping_url")
FIELDS = (*URLS, "environment")
# Of these the host is no secret; of the others it can be an id or a token.
_PLAIN_HOSTS = frozenset({"http", "https", "json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"})
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_HIDDEN = "…"


def split(text: str) -> list[str]:
    """Return the URLs of a text that has one a line, or several between blanks."""
    return text.split()


def mask(url: str) -> str:
    """Return a URL without its secret part: `discord://…`, `jsons://host/…`."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in _PLAIN_HOSTS or not rest:
        return f"{scheme}://{_HIDDEN}" if rest else _HIDDEN
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return f"{scheme}://{host}/{_HIDDEN}"


def fingerprint(url: str) -> str:
    """Tell one URL from another without giving it away."""
    return hashlib.sha256(url.encode()).hexdigest()[:32]


def masked(name: str, value: Any) -> Any:
    """Return a column's value as anybody may see it."""
    if name == "environment":
        return mask_environment(value)
    return "\n".join(mask(url) for url in split(value)) if name in URLS else value


def mask_job(job: Job) -> None:
    """Mask the secrets of an object that is only shown, never saved."""
    for name in FIELDS:
        setattr(job, name, masked(name, getattr(job, name)))


def unmasked(sent: str, stored: str) -> str:
    """Return the text that a person sent back for a masked one: a line left as it was stands for what is stored."""
    left = split(stored)
    result = []
    for line in split(sent):
        kept = next((url for url in left if mask(url) == line), None)
        if kept is not None:
            left.remove(kept)
        result.append(kept or line)
    return "\n".join(result)


def check_destinations(text: str) -> None:
    """Raises Invalid for what isn't a list of URLs; says which, not what."""
    for number, url in enumerate(split(text), 1):
        if not _URL.fullmatch(url) or _HIDDEN in url:
            raise Invalid(f"number {number} is not a URL such as discord://id/token: put one on each line")


def check_ping(url: str) -> None:
    """Raises Invalid for what can't be called over HTTP."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not (parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable or _HIDDEN in url or url.split() != [url]:
        raise Invalid("must be a URL that begins with https:// or http:// and has no query")
