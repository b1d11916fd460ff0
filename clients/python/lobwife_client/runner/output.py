"""A command's output as the supervisor kept it: its head in the file, its tail in segments beside it."""

from __future__ import annotations

import contextlib
import pathlib
import re

_MOST_BYTES = 16 * 1024
_MOST_LINES = 40
_MOST_CHARACTERS = 4000
_MOST_OF_A_LINE = 200
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def last_lines(path: pathlib.Path) -> str:
    """Return the last lines as plain text, at most 40 of them; empty when nothing was printed."""
    text = _ESCAPES.sub("", _tail(path).decode(errors="replace")).replace("\r\n", "\n")
    lines = [_CONTROLS.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip() for line in text.split("\n")]
    return "\n".join("\n".join(lines).strip("\n").split("\n")[-_MOST_LINES:])[-_MOST_CHARACTERS:]


def last_line(path: pathlib.Path) -> str:
    """Return the last line that says something; empty when none does."""
    line = last_lines(path).rpartition("\n")[2].strip()
    return line if len(line) <= _MOST_OF_A_LINE else f"{line[: _MOST_OF_A_LINE - 1]}…"


def _tail(path: pathlib.Path) -> bytes:
    segments = [each for each in path.parent.glob(f"{path.name}.*") if each.suffix[1:].isdigit()]
    data = b""
    for part in sorted(segments, key=lambda each: int(each.suffix[1:]), reverse=True) + [path]:
        with contextlib.suppress(OSError), part.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - (_MOST_BYTES - len(data))))
            data = file.read(_MOST_BYTES - len(data)) + data
        if len(data) >= _MOST_BYTES:
            break
    return data
