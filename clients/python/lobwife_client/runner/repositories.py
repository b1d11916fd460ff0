"""The repositories of a task: from their names to `git clone`."""

from __future__ import annotations

import pathlib
import re
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

_SEGMENT = re.compile(r"(?!-)(?!\.{1,2}$)(?!\.git$)[A-Za-z0-9._-]{1,100}")
_SCHEMES = ("https", "http", "file")


class BadRepository(Exception):
    """A task names a repository that can't be cloned; the sentence says why."""


def check_base(base: str) -> str:
    """Return the address that repositories are cloned below, without the last slash; raises ValueError."""
    parts = urlsplit(base)
    if parts.scheme not in _SCHEMES or not (parts.netloc or parts.scheme == "file"):
        raise ValueError("LOBWIFE_GIT_BASE must begin with https://, http:// or file://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("LOBWIFE_GIT_BASE must be an address without user, password and parameters")
    return base.rstrip("/")


def folders_of(repos: Sequence[str], base: str) -> dict[str, str]:
    """Return the folder for each name; raises BadRepository.

    The task's text is not to be trusted: only names are cloned, and addresses below the base.
    """
    names = []
    for repo in dict.fromkeys(repos):
        name = repo[len(base) + 1 :] if repo.startswith(f"{base}/") else repo
        segments = name.split("/")
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise BadRepository(f"{repo[:200]!r} is neither the name of a repository nor an address below {base}")
        names.append(name)
    last = {name: name.rpartition("/")[2].removesuffix(".git") for name in names}
    counts = Counter(last.values())
    return {name: folder if counts[folder] == 1 else name for name, folder in last.items()}


def clone_command(name: str, base: str, target: pathlib.Path) -> list[str]:
    """Return the command that clones one; its environment has the way to a token."""
    return ["git", "clone", "--quiet", "--", f"{base}/{name}", str(target)]


def clone_variables(base: str) -> dict[str, str]:
    """Return what keeps git from following a repository to another protocol."""
    return {"GIT_ALLOW_PROTOCOL": urlsplit(base).scheme}
