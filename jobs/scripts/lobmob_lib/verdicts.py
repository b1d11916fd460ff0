"""Rules that a change of the vault must pass."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import frontmatter
import yaml
from frontmatter.default_handlers import YAMLHandler

from .diffs import FileDiff

FOLDERS = ("010-tasks/", "020-logs/", "030-knowledge/", "040-fleet/", "000-inbox/")
AGENTS = "AGENTS.md"
_FILES = ("100644", "100755")
_NOTE = re.compile(r"010-tasks/(active|completed|failed)/[^/]+\.md")
_REQUIRED = ("id", "status", "created")
_MOST_CHARACTERS = 256 * 1024  # of frontmatter: the sync reads no more either
_SECRETS = {
    "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}",
    "an Anthropic key": r"\bsk-ant-[A-Za-z0-9_-]{16,}",
    "a DigitalOcean token": r"\bdo[opr]_v1_[a-f0-9]{32,}",
    "a Discord token": r"\b[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"
    r"|discord(?:app)?\.com/api/webhooks/\d+/[A-Za-z0-9_-]{20,}",
    "an AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
}
_COMPILED = {name: re.compile(pattern) for name, pattern in _SECRETS.items()}


def problems(files: Iterable[FileDiff], content: Callable[[str], str]) -> list[str]:
    """Why a change must not be merged, a sentence each and without the secret; `content` reads a file of it."""
    found: list[str] = []
    for file in files:
        shown = _shown(file.new or file.old)
        outside = [path for path in file.paths if not _is_inside(path)]
        found += [f"{_shown(path)} is outside of the vault's folders" for path in outside]
        odd = sorted(file.modes - set(_FILES))
        if odd and file.new:
            found.append(f"{shown} is {'a symlink' if '120000' in odd else 'not a regular file'}")
        text = "\n".join([file.new, *file.added])
        found += [f"{shown} has {name} in its added lines" for name, secret in _COMPILED.items() if secret.search(text)]
        if _NOTE.fullmatch(file.new) and not odd:
            found += [f"{shown}: {wrong}" for wrong in _wrong_note(file.new, content(file.new))]
    return found


def _wrong_note(path: str, text: str) -> list[str]:
    try:
        keys = frontmatter.loads(text, handler=_Handler()).metadata
    except Exception:  # whatever a parser raises on what anybody wrote: the note can't be read
        return ["its frontmatter is not valid YAML"]
    missing = [key for key in _REQUIRED if keys.get(key) in (None, "")] if isinstance(keys, dict) else [*_REQUIRED]
    if missing:
        return [f"its frontmatter lacks {', '.join(missing)}"]
    name = pathlib.PurePosixPath(path).stem
    is_same = isinstance(keys["id"], str | int) and str(keys["id"]) == name  # a list may be endless once written out
    return [] if is_same else ["its id differs from the file's name"]


class _Loader(yaml.SafeLoader):
    """In Python, where nesting too deep is an error: in C it ends the process. `<<` is a key like any other, as it is
    to the sync: merged, a few lines can become any number.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"


class _Handler(YAMLHandler):
    def load(self, fm: str, **kwargs: object) -> Any:
        if len(fm) > _MOST_CHARACTERS:
            raise ValueError("too large")
        return yaml.load(fm, Loader=_Loader)  # noqa: S506 it is a SafeLoader


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    return path == AGENTS or (path.startswith(FOLDERS) and not {"", ".", "..", ".git"} & set(parts))


def _shown(path: str) -> str:
    plain = re.sub(r"[^\w./ -]", "?", path)[:150]
    for secret in _COMPILED.values():
        plain = secret.sub("***", plain)
    return f"`{plain}`"
