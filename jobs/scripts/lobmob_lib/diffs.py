"""Unified diffs as git writes them: which paths, of which kind, with which added lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SAME_TWICE = re.compile(r'a/(?P<path>.+) b/(?P=path)|"a/(?P<quoted>.+)" "b/(?P=quoted)"')
_ESCAPE = re.compile(rb'\\([0-7]{3}|[abtnvfr"\\])')
_LETTERS = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
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


def read(text: str) -> list[FileDiff]:
    """The files of a diff; raises NotADiff."""
    files: list[FileDiff] = []
    in_hunk = False
    for line in text.split("\n"):
        if line.startswith("diff --git "):
            files.append(_named(line.removeprefix("diff --git ")))
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
            _header(files[-1], line)
    if not all(each.paths for each in files):
        raise NotADiff("a path in it can't be read")
    return files


def _named(names: str) -> FileDiff:
    """By the first line, which is only clear when both names are the same; the lines that follow say the rest."""
    same = _SAME_TWICE.fullmatch(names)
    if same is None:
        return FileDiff()
    path = same["path"] if same["path"] is not None else _unescaped(same["quoted"])
    return FileDiff(old=path, new=path)


def _header(file: FileDiff, line: str) -> None:
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
    def plain(found: re.Match[bytes]) -> bytes:
        what = found[1]
        return bytes([int(what, 8) & 0xFF]) if len(what) == 3 else _LETTERS.get(what, what)

    return _ESCAPE.sub(plain, text.encode()).decode(errors="replace")
