"""The scope of a token: repository names by GitHub's rules, the owner, permissions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.conf import settings

from core.errors import Forbidden, Invalid, Unprocessable

MOST_REPOSITORIES = 500
SERVICE_PREFIX = "service:"  # of the names of services among the permissions of agent types
# Letters, digits and single dashes; users that a company manages have `_shortcode` at the end.
_OWNER = re.compile(r"(?=.{1,39}\Z)[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*(?:_[A-Za-z0-9]+)?", re.ASCII)
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,100}", re.ASCII)
_GITHUB = "github.com"
_URL = re.compile(
    r"(?:(?:https?|ssh|git)://(?:[^/@]*@)?|[^/@:]+@)(?P<host>[^/:@]+)(?::\d+)?[:/]/?(?P<name>[^/]+/[^/]+?)(?:\.git)?/?",
    re.ASCII,
)
_PERMISSION = re.compile(r"[a-z][a-z0-9_]{0,99}", re.ASCII)
_LEVELS = ("read", "write", "admin")
_LONGEST = 100


@dataclass(frozen=True)
class Scope:
    """The repositories (None: all of the installation) and permissions of a token, and its holder's key."""

    key: str
    generation: int
    repositories: tuple[str, ...] | None
    permissions: Mapping[str, str]
    installation_id: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        parts = [
            self.key,
            self.generation,
            sorted(name.lower() for name in self.repositories) if self.repositories is not None else None,
            sorted(self.permissions.items()),
            self.installation_id,
        ]
        object.__setattr__(self, "digest", hashlib.sha256(json.dumps(parts).encode()).hexdigest())


def repository_name(text: str) -> str:
    """Return owner/name for the address of a repository as GitHub shows it or git takes it; other texts as they are."""
    text = text.strip()
    address = _URL.fullmatch(text)
    if address is None:
        return text
    host = address["host"].lower().removeprefix("www.")
    return address["name"] if host in {_GITHUB, urlsplit(settings.GITHUB_API_URL).hostname} else text


def check_repositories(names: Iterable[str], owner: str | None) -> list[str]:
    """Return the names, duplicates merged; `owner` is None while it is unknown.

    Raises Invalid when there are none, Unprocessable for a malformed name, a foreign owner or too many.
    """
    by_full_name: dict[str, str] = {}
    for name in map(repository_name, names):
        name_owner, slash, bare = name.rpartition("/")
        if not _NAME.fullmatch(bare) or bare.lower().endswith(".git") or (slash and not _OWNER.fullmatch(name_owner)):
            raise Unprocessable(f"{name[:_LONGEST]!r} is not a repository: use owner/name as GitHub shows it")
        if name_owner and owner and name_owner.lower() != owner.lower():
            raise Unprocessable(f"{name[:_LONGEST]} does not belong to {owner}, the owner of the App's installation")
        by_full_name.setdefault(f"{name_owner or owner or ''}/{bare}".lower(), name)
    if not by_full_name:
        raise Invalid("repos required")
    if len(by_full_name) > MOST_REPOSITORIES:
        raise Unprocessable(
            f"{len(by_full_name)} repositories are too many for one token: GitHub takes {MOST_REPOSITORIES}"
        )
    return list(by_full_name.values())


def bare_names(names: Iterable[str], owner: str | None) -> list[str]:
    """Return the names without their owner, as GitHub takes them; raises as check_repositories does."""
    bare = [name.rpartition("/")[2] for name in check_repositories(names, owner)]
    return list({name.lower(): name for name in bare}.values())


def agent_permissions(agent_type: str, requested: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the permissions that the settings grant an agent type, never a service's, or fewer that were requested.

    Raises Forbidden when more are requested.
    """
    is_type = not agent_type.startswith(SERVICE_PREFIX)
    granted = (settings.BROKER_PERMISSIONS.get(agent_type) if is_type else None) or _default_permissions()
    if not requested:
        return dict(granted)
    for name, level in requested.items():
        if not at_most(level, granted.get(name)):
            raise Forbidden(f"{name[:_LONGEST]}: {level} is more than a token for {agent_type[:_LONGEST]!r} may have")
    return dict(requested)


def service_permissions(service: str) -> dict[str, str]:
    """Return the permissions that the settings grant a service, under `service:NAME`."""
    return dict(settings.BROKER_PERMISSIONS.get(SERVICE_PREFIX + service) or _default_permissions())


def _default_permissions() -> dict[str, str]:
    permissions: dict[str, str] = settings.BROKER_PERMISSIONS["default"]
    return permissions


def read_permissions(value: object) -> dict[str, str] | None:
    """Return permissions as a caller sent them; None when none were. Raises Invalid."""
    if value is None:
        return None
    if not isinstance(value, dict) or not value or not well_formed(value):
        raise Invalid('permissions must be an object such as {"contents": "read"}')
    return value


def well_formed(permissions: object) -> bool:
    """Return whether this is an object of permission names with levels."""
    return isinstance(permissions, dict) and all(
        isinstance(name, str) and _PERMISSION.fullmatch(name) and level in _LEVELS
        for name, level in permissions.items()
    )


def at_most(level: str | None, limit: str | None) -> bool:
    """Return whether a level is within the limit; without a limit none is."""
    return level in _LEVELS and limit in _LEVELS and _LEVELS.index(level) <= _LEVELS.index(limit)
