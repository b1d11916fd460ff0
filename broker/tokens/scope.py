"""What a token may reach: repository names by GitHub's rules, the owner, permissions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.conf import settings

from core.errors import Forbidden, Invalid, Unprocessable

MOST_REPOSITORIES = 500
# Letters, digits and single dashes; users that a company manages have `_shortcode` at the end.
_OWNER = re.compile(r"(?=.{1,39}\Z)[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*(?:_[A-Za-z0-9]+)?", re.ASCII)
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,100}", re.ASCII)
_PERMISSION = re.compile(r"[a-z][a-z0-9_]{0,99}", re.ASCII)
_LEVELS = ("read", "write", "admin")
_SHOWN = 100


@dataclass(frozen=True)
class Scope:
    """The repositories (None: all of the installation) and permissions of a token, and whose it is."""

    subject: str
    generation: int
    repositories: tuple[str, ...] | None
    permissions: Mapping[str, str]
    installation_id: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        parts = [
            self.subject,
            self.generation,
            sorted(name.lower() for name in self.repositories) if self.repositories is not None else None,
            sorted(self.permissions.items()),
            self.installation_id,
        ]
        object.__setattr__(self, "digest", hashlib.sha256(json.dumps(parts).encode()).hexdigest())


def check_repositories(names: Iterable[str], owner: str) -> list[str]:
    """The names, duplicates merged; `owner` is empty while it is unknown.

    Raises Invalid when there are none, Unprocessable for a malformed name, a foreign owner or too many.
    """
    kept: dict[str, str] = {}
    for name in names:
        shown = name.strip()
        its_owner, slash, bare = shown.rpartition("/")
        if not _NAME.fullmatch(bare) or bare.lower().endswith(".git") or (slash and not _OWNER.fullmatch(its_owner)):
            raise Unprocessable(f"{shown[:_SHOWN]!r} is not a repository: use owner/name as GitHub shows it")
        if its_owner and owner and its_owner.lower() != owner.lower():
            raise Unprocessable(f"{shown[:_SHOWN]} does not belong to {owner}, the owner of the App's installation")
        kept.setdefault(f"{its_owner or owner}/{bare}".lower(), shown)
    if not kept:
        raise Invalid("repos required")
    if len(kept) > MOST_REPOSITORIES:
        raise Unprocessable(f"{len(kept)} repositories are too many for one token: GitHub takes {MOST_REPOSITORIES}")
    return list(kept.values())


def bare_names(names: Iterable[str], owner: str) -> list[str]:
    """The names as GitHub wants them, without the owner, all of whose they are; raises as check_repositories does."""
    found = {name.rpartition("/")[2].lower(): name.rpartition("/")[2] for name in check_repositories(names, owner)}
    return list(found.values())


def permissions_for(kind: str, asked: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the settings grant an agent type or service, narrowed to what was asked; raises Forbidden for more."""
    granted = settings.BROKER_PERMISSIONS.get(kind) or settings.BROKER_PERMISSIONS["default"]
    if not asked:
        return dict(granted)
    for name, level in asked.items():
        if not at_most(level, granted.get(name)):
            raise Forbidden(f"{name[:_SHOWN]}: {level} is more than a token for {kind[:_SHOWN]!r} may have")
    return dict(asked)


def read_permissions(value: object) -> dict[str, str] | None:
    """Permissions as a caller sends them; None when none are. Raises Invalid."""
    if value is None:
        return None
    if not isinstance(value, dict) or not value or not well_formed(value):
        raise Invalid('permissions must be an object such as {"contents": "read"}')
    return value


def well_formed(permissions: object) -> bool:
    """Whether these are names of permissions with levels."""
    return isinstance(permissions, dict) and all(
        isinstance(name, str) and _PERMISSION.fullmatch(name) and level in _LEVELS
        for name, level in permissions.items()
    )


def at_most(level: str | None, limit: str | None) -> bool:
    """Whether a level is within the limit; without a limit none is."""
    return level in _LEVELS and limit in _LEVELS and _LEVELS.index(level) <= _LEVELS.index(limit)
