"""Typed reading of the environment; a value that can't be used raises ImproperlyConfigured with a sentence."""

import ipaddress
import json
import os
import pathlib
from typing import Any

from django.core.exceptions import ImproperlyConfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Servers listen on these for all interfaces; clients can't connect to them everywhere.
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def text(name: str, default: str = "") -> str:
    """Return the variable without surrounding blanks; empty counts as unset."""
    return os.environ.get(name, "").strip() or default


def integer(name: str, default: int, *, at_least: int = 0, at_most: int = 2**31) -> int:
    """Return a whole number within the bounds; raises ImproperlyConfigured otherwise."""
    raw = text(name)
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        value = at_least - 1
    if not at_least <= value <= at_most:
        raise ImproperlyConfigured(f"{name} is {raw!r}: set it to a whole number from {at_least} to {at_most}.")
    return value


def boolean(name: str, default: bool) -> bool:
    """Read 1/0, true/false, yes/no or on/off; raises ImproperlyConfigured otherwise."""
    raw = text(name).lower()
    if not raw:
        return default
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} is {raw!r}: set it to 1 or 0.")


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed words; raises ImproperlyConfigured otherwise."""
    raw = text(name, default)
    if raw not in allowed and raw != default:
        raise ImproperlyConfigured(f"{name} is {raw!r}: set it to one of {', '.join(allowed)}.")
    return raw


def path(name: str, default: pathlib.Path) -> pathlib.Path:
    """Return an absolute path; `~` is the home directory."""
    raw = text(name)
    return pathlib.Path(raw).expanduser().absolute() if raw else default


def words(name: str, default: tuple[str, ...] = (), *, separator: str = ",") -> tuple[str, ...]:
    """Return the non-empty parts between separators, without surrounding blanks."""
    raw = text(name)
    return tuple(part.strip() for part in raw.split(separator) if part.strip()) if raw else default


def json_object(name: str) -> dict[str, Any]:
    """Return a JSON object, empty when unset; raises ImproperlyConfigured otherwise."""
    raw = text(name)
    if not raw:
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ImproperlyConfigured(f"{name} can't be read: set it to a JSON object.")
    return value


def pairs(name: str, default: dict[str, str], *, allowed: tuple[str, ...]) -> dict[str, str]:
    """Read `key=word,key=word`; raises ImproperlyConfigured for a word that is not allowed."""
    mapping = {}
    for part in words(name):
        key, _, word = part.partition("=")
        if not key.strip() or word.strip() not in allowed:
            raise ImproperlyConfigured(f"{name} has {part!r}: write name=word, the word one of {', '.join(allowed)}.")
        mapping[key.strip()] = word.strip()
    return mapping or dict(default)


def counts(name: str, default: dict[str, int]) -> dict[str, int]:
    """Read `key=3,key=5` over the default; raises ImproperlyConfigured for what is not a number from 1 to 1,000."""
    mapping = dict(default)
    for part in words(name):
        key, _, number = part.partition("=")
        if not key.strip() or not number.strip().isdecimal() or not 1 <= int(number) <= 1000:
            raise ImproperlyConfigured(f"{name} has {part!r}: write name=number, the number from 1 to 1000.")
        mapping[key.strip()] = int(number)
    return mapping


def networks(name: str) -> tuple[Network, ...]:
    """Return addresses and networks, separated by commas; raises ImproperlyConfigured for anything else."""
    try:
        return tuple(ipaddress.ip_network(word) for word in words(name))
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name}: {error}; write addresses such as 10.0.0.0/8, separated by commas."
        ) from None


def kubernetes_api() -> str:
    """Return the URL of the cluster's API, which every container is told; empty outside of a cluster."""
    host = text("KUBERNETES_SERVICE_HOST")
    port = integer("KUBERNETES_SERVICE_PORT", 443, at_least=1, at_most=65535)
    return _url("https", host, port) if host else ""


def local_url(bind: str, port: int) -> str:
    """Return the URL, without a path, at which this machine reaches a server that listens on `bind`."""
    return _url("http", _LOOPBACK_OF.get(bind, bind), port)


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
