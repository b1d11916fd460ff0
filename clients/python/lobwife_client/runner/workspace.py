"""The folder of one lease: the note, the clones, a home of its own, the output.

T12.3-k2v9/  note.md  output.log  prepare.log  usage.jsonl  home/  work/
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .folders import OwnFolder, prune

_PLACEHOLDER = re.compile(r"\{(note|task|dir)\}")


class Workspace:
    """What a task's command finds; `directory` is where it starts."""

    def __init__(self, parent: pathlib.Path, task: Mapping[str, Any], fence: int, *, identity: str, keep: int) -> None:
        """Make it, with the note in it; `identity` signs commits. Raises OSError."""
        self._keep = keep
        self._folder = OwnFolder(parent, f"{task['task_id']}.{fence}-")
        self.path = self._folder.path
        self.note = self.path / "note.md"
        self.output = self.path / "output.log"
        self.preparation = self.path / "prepare.log"
        self.usage = self.path / "usage.jsonl"
        self.home = self.path / "home"
        self.work = self.path / "work"
        self.directory = self.work
        for folder in (self.home, self.work):
            folder.mkdir(mode=0o700)
        self.note.write_text(task.get("body") or f"# {task['name']}\n", encoding="utf-8", errors="replace")
        (self.home / ".gitconfig").write_text(_git_identity(identity), encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Let go of it: it is kept for people until newer ones take its place."""
        self._folder.close()
        prune(self.path.parent, self._keep)


def filled_in(command: Sequence[str], task_id: str, workspace: Workspace) -> list[str]:
    """Return the command with its placeholders replaced."""
    values = {"note": str(workspace.note), "task": task_id, "dir": str(workspace.directory)}
    return [_PLACEHOLDER.sub(lambda match: values[match[1]], argument) for argument in command]


def _git_identity(name: str) -> str:
    quoted = "".join(c for c in name if c.isprintable()).replace("\\", "\\\\").replace('"', '\\"')
    return f'[user]\n\tname = "{quoted}"\n\temail = "agents@lobwife.invalid"\n'
