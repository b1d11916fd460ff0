"""Repairs before a sync: stale locks, unfinished merges and rebases, a broken index."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import shutil
import time

from core.git.command import Git
from vaultsync.git.files import Blocked, Files
from vaultsync.git.worktree import Worktree

_SURELY_OLD_SECONDS = 600
_LOCKS = ("*.lock", "refs/**/*.lock", "objects/info/*.lock")  # those of packs stop nothing
_UNFINISHED = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


class Recovery:
    """Repairs what an interrupted git, or an interrupted sync, left behind."""

    def __init__(self, git: Git, files: Files, worktree: Worktree) -> None:
        self.git = git
        self.worktree = worktree
        self.files = files
        self.folder = files.root / ".git"
        self.running = files.scratch / "running"
        self.notices: list[str] = []

    def run(self) -> None:
        """Repair what can be; raises Blocked, with a sentence, for what must not be touched."""
        if not self._index_is_sound() and (head := self.git.resolve("HEAD")):
            (self.folder / "index").unlink(missing_ok=True)
            self.worktree.set_index(head)
            entries = self.git.entries(head, recursive=True)
            self.worktree.put_back({path: entry for path, entry in entries.items() if not self.files.kind(path)})
            self.notices.append("made git's index anew")
        unfinished = next((name for name in _UNFINISHED if (self.folder / name).exists()), None)
        if unfinished:
            self._end(_UNFINISHED[unfinished])

    # --- locks
    def __enter__(self) -> None:
        """Note that a sync is under way: a lock that is made from now on, and has no git, is one of its own."""
        self.running.touch()

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        """Remove the locks that a killed git of this sync left; when the sync itself is killed, the next one does."""
        if kind and not issubclass(kind, Exception):
            return
        with contextlib.suppress(Blocked, OSError):
            self.remove_stale_locks()
        with contextlib.suppress(OSError):
            self.running.unlink()

    def remove_stale_locks(self) -> None:
        """Remove locks whose git is gone; raises Blocked for one that may be in use, or that can't be removed.

        Its git is gone when none works here that we can see, and the lock is of a sync of ours or surely too old.
        """
        for path in (path for pattern in _LOCKS for path in self.folder.glob(pattern)):
            name = path.relative_to(self.files.root)
            try:
                made = path.lstat().st_mtime
                is_ours = self.running.exists() and made >= self.running.stat().st_mtime
                is_old = made < time.time() - _SURELY_OLD_SECONDS
                if not (is_ours or is_old) or _git_works_in(self.files.root):
                    raise Blocked(f"another git works in the vault ({name}); tried again later")
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Blocked(f"{name} can't be removed ({error.strerror}): remove it, no git is at work") from None
            self.notices.append(f"removed {name}, whose owner is gone")

    # --- merges and rebases
    def _end(self, what: str) -> None:
        """End an unfinished merge or rebase; what lay in the working copy is kept under a ref."""
        if _git_works_in(self.files.root):
            raise Blocked(f"a {what} is under way in the vault; tried again later")
        rescued = self._rescue()
        if what == "rebase":
            self.git.run("rebase", "--abort", accept=range(256))
        self.git.run(what, "--quit", accept=range(256))
        for name in _UNFINISHED:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.git.run("read-tree", "--reset", "-u", "HEAD")
        self.notices.append(f"ended an unfinished {what}; what lay in the working copy is kept as {rescued}")

    def _rescue(self) -> str:
        """Commit the working copy under a ref of its own; returns the ref."""
        head = self.git.resolve("HEAD")
        edits = self.worktree.edits(head, None, marked=True)
        commit = self.git.commit_files(edits, [head] if head else [], "What lay in the working copy\n")
        name = f"refs/lobwife/rescued/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        self.git.set_refs({name: commit})
        return name

    # --- the index
    def _index_is_sound(self) -> bool:
        """Return False for an index that is missing, cut off or damaged: git itself does not look at its checksum."""
        with contextlib.suppress(FileNotFoundError):
            content = (self.folder / "index").read_bytes()
            right = hashlib.new(self.git.object_format, usedforsecurity=False)
            size = right.digest_size
            right.update(content[:-size])
            return content[:4] == b"DIRC" and content[-size:] in (right.digest(), bytes(size))
        return False


def _git_works_in(root: pathlib.Path) -> bool:
    """Return True when a process named git has its working directory in the vault. The caller has the lock."""
    inside = f"{os.path.realpath(root)}/"
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_git = (process / "comm").read_text().startswith("git")
            if is_git and f"{os.readlink(process / 'cwd')}/".startswith(inside):
                return True
    return False
