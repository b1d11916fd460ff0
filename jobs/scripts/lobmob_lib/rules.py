"""Rules that a change of the vault must pass, and unified diffs as git writes them."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from core.frontmatter import Unsafe, parse

FOLDERS = ("010-tasks/", "020-logs/", "030-knowledge/", "040-fleet/", "000-inbox/")
AGENTS = "AGENTS.md"
_FILES = ("100644", "100755")
_NOTE = re.compile(r"010-tasks/(active|completed|failed)/[^/]+\.md")
_REQUIRED = ("id", "status", "created")
_SECRETS = {
    name: re.compile(pattern)
    for name, pattern in {
        "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY",
        "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}",
        "an Anthropic key": r"\bsk-ant-[A-Za-z0-9_-]{16,}",
        "a DigitalOcean token": r"\bdo[opr]_v1_[a-f0-9]{32,}",
        "a Discord token": r"\b[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"
        r"|discord(?:app)?\.com/api/webhooks/\d+/[A-Za-z0-9_-]{20,}",
        "an AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    }.items()
}
_SAME_TWICE = re.compile(r'a/(?P<path>.+) b/(?P=path)|"a/(?P<quoted>.+)" "b/(?P=quoted)"')
_MODE = re.compile(
    r"(?:new file mode|new mode|old mode|deleted file mode) (\d{6})|index [0-9a-f]+\.\.[0-9a-f]+ (\d{6})"
)


class NotADiff(ValueError):
    """The text can't be read as a diff."""


@dataclass
class FileDiff:
    """One file of a diff; `old` and `new` are empty where it is absent on that side."""

    old: str = ""
    new: str = ""
    modes: set[str] = field(default_factory=set)
    added: list[str] = field(default_factory=list)
    binary: bool = False

    @property
    def paths(self) -> list[str]:
        return list(dict.fromkeys(path for path in (self.old, self.new) if path))


def problems(files: Iterable[FileDiff], content: Callable[[str], str]) -> list[str]:
    """Return why a change must not be merged, a sentence each and without the secret; `content` reads a file of it."""
    sentences: list[str] = []
    for file in files:
        name = _printable(file.new or file.old)
        sentences += [f"{_printable(path)} is outside of the vault's folders" for path in file.paths if _is_out(path)]
        odd = sorted(file.modes - set(_FILES))
        if odd and file.new:
            sentences.append(f"{name} is {'a symlink' if '120000' in odd else 'not a regular file'}")
        text = "\n".join([file.new, *file.added])
        sentences += [
            f"{name} has {kind} in its added lines" for kind, secret in _SECRETS.items() if secret.search(text)
        ]
        if _NOTE.fullmatch(file.new) and not odd and (problem := _note_problem(file.new, content(file.new))):
            sentences.append(f"{name}: {problem}")
    return sentences


def read_diff(text: str) -> list[FileDiff]:
    """Return the files of a diff; raises NotADiff."""
    files: list[FileDiff] = []
    in_hunk = False
    for line in text.split("\n"):
        if line.startswith("diff --git "):
            # Clear only when both names are the same; else the lines that follow say them.
            same = _SAME_TWICE.fullmatch(line.removeprefix("diff --git "))
            path = (same["path"] or _unescaped(same["quoted"])) if same else ""
            files.append(FileDiff(old=path, new=path))
            in_hunk = False
        elif not files:
            if line.strip():
                raise NotADiff("it does not begin as a diff does")
        elif in_hunk:
            if line.startswith("+"):
                files[-1].added.append(line[1:])
        elif line.startswith("@@ "):
            in_hunk = True
        else:
            _read_header(files[-1], line)
    if not all(file.paths for file in files):
        raise NotADiff("a path in it can't be read")
    return files


def _read_header(file: FileDiff, line: str) -> None:
    mode = _MODE.fullmatch(line)
    if mode:
        file.modes.add(mode[1] or mode[2])
        if line.startswith("new file"):
            file.old = ""
        elif line.startswith("deleted"):
            file.new = ""
    elif line.startswith(("rename from ", "copy from ")):
        file.old = _path(line.partition(" from ")[2])
    elif line.startswith(("rename to ", "copy to ")):
        file.new = _path(line.partition(" to ")[2])
    elif line.startswith("--- "):
        file.old = _sided(line[4:], "a/")
    elif line.startswith("+++ "):
        file.new = _sided(line[4:], "b/")
    elif line.startswith(("Binary files ", "GIT binary patch")):
        file.binary = True


def _sided(text: str, side: str) -> str:
    path = _path(text.removesuffix("\t"))
    if path == "/dev/null":
        return ""
    if not path.startswith(side):
        raise NotADiff("a path in it can't be read")
    return path.removeprefix(side)


def _path(text: str) -> str:
    return _unescaped(text[1:-1]) if len(text) > 1 and text[0] == text[-1] == '"' else text


def _unescaped(text: str) -> str:
    """Return a path that git quoted, with octal numbers for bytes."""
    characters = text.encode().decode("unicode_escape", "replace")
    return characters.encode("latin-1", "replace").decode(errors="replace")


def _note_problem(path: str, text: str) -> str:
    try:
        document = parse(text)
    except Unsafe as error:
        return f"its frontmatter is not valid YAML that lobwife reads: {error}"
    missing = [key for key in _REQUIRED if not document.value(key)]
    if missing:
        return f"its frontmatter lacks {', '.join(missing)}"
    return "" if document.value("id") == pathlib.PurePosixPath(path).stem else "its id differs from the file's name"


def _is_out(path: str) -> bool:
    return path != AGENTS and (not path.startswith(FOLDERS) or bool({"", ".", "..", ".git"} & set(path.split("/"))))


def _printable(path: str) -> str:
    plain = re.sub(r"[^\w./ -]", "?", path)[:150]
    for secret in _SECRETS.values():
        plain = secret.sub("***", plain)
    return f"`{plain}`"
