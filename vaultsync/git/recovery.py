"""Repairs before a sync: stale locks, unfinished merges and rebases, a broken index."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import time

from vaultsync.git.command import Git, GitError
from vaultsync.git.files import Blocked, Files
from vaultsync.git.worktree import Worktree

_RUNNING = "busy.json"
_SURELY_OLD_SECONDS = 600
_REBASES = ("rebase-merge", "rebase-apply")
_OTHERS = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")


class Recovery:
    """Repairs what an interrupted git, or an interrupted sync, left behind."""

    def __init__(self, git: Git, files: Files, worktree: Worktree) -> None:
        self.git = git
        self.files = files
        self.worktree = worktree
        self.folder = files.root / ".git"
        self.notices: list[str] = []

    def run(self) -> None:
        """Repair what can be; raises Blocked, with a sentence, for what must not be touched."""
        self._end_merges()
        self._repair_index()

    # --- syncs
    def begin(self) -> None:
        """Note that a sync of ours is under way, so that a lock that its git leaves behind is known as ours."""
        self._save_span(time.time(), None)

    def end(self) -> None:
        self._save_span(self._span()[0], time.time())

    def _save_span(self, since: float, until: float | None) -> None:
        (self.files.scratch / _RUNNING).write_bytes(json.dumps({"since": since, "until": until}).encode())

    def _span(self) -> tuple[float, float]:
        """Return when the last sync began and ended; one that was killed lasted until now, while we hold the lock."""
        try:
            span = json.loads((self.files.scratch / _RUNNING).read_bytes())
            return float(span["since"]), float(span["until"] or time.time())
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0, 0.0

    # --- locks
    def remove_stale_locks(self) -> None:
        """Remove locks whose git is gone; raises Blocked for one that may be in use, or that can't be removed."""
        for path in self._locks():
            name = path.relative_to(self.files.root)
            try:
                if not self._owner_is_gone(path.lstat().st_mtime):
                    raise Blocked(f"another git works in the vault ({name}); tried again later")
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Blocked(f"{name} can't be removed ({error.strerror}): remove it, no git is at work") from None
            self.notices.append(f"removed {name}, whose owner is gone")

    def _locks(self) -> list[pathlib.Path]:
        """Return the files by which git locks its own; those of packs are none that stop a sync."""
        return [path for glob in ("*.lock", "refs/**/*.lock", "objects/info/*.lock") for path in self.folder.glob(glob)]

    def _owner_is_gone(self, created_at: float) -> bool:
        """Return True for a lock of a sync of ours, or one that is too old, when no git works here that we can see."""
        if _git_works_in(self.files.root):
            return False
        since, until = self._span()
        is_ours = since - 1 <= created_at <= until
        return is_ours or created_at < _booted_at() or created_at < time.time() - _SURELY_OLD_SECONDS

    # --- merges and rebases
    def _end_merges(self) -> None:
        rebase = next((name for name in _REBASES if (self.folder / name).is_dir()), None)
        other = next((name for name in _OTHERS if (self.folder / name).exists()), None)
        if not rebase and not other:
            return
        what = "rebase" if rebase else {"MERGE_HEAD": "merge"}.get(str(other), "cherry-pick")
        if _git_works_in(self.files.root):
            raise Blocked(f"a {what} is under way in the vault; tried again later")
        rescued = self._rescue()
        if rebase:
            self._leave_rebase(self.folder / rebase)
        for name in (*_OTHERS, "MERGE_MSG", "MERGE_MODE", "AUTO_MERGE"):
            (self.folder / name).unlink(missing_ok=True)
        self.git.run("read-tree", "--reset", "-u", "HEAD")
        self.notices.append(f"ended an unfinished {what}; what lay in the working copy is kept as {rescued}")

    def _leave_rebase(self, folder: pathlib.Path) -> None:
        """Return to the branch as it was before the rebase began."""
        with contextlib.suppress(OSError):
            name = (folder / "head-name").read_text().strip()
            original = (folder / "orig-head").read_text().strip()
            if name.startswith("refs/heads/") and self.git.resolve(original):
                if self.git.resolve(name) is None:
                    self.git.run("update-ref", name, original)
                self.git.run("symbolic-ref", "HEAD", name)
        shutil.rmtree(folder, ignore_errors=True)

    def _rescue(self) -> str:
        """Commit the working copy under a ref of its own, so that nothing is lost; returns the ref."""
        index = self.files.scratch / "rescue-index"
        environment = {"GIT_INDEX_FILE": str(index)}
        try:
            head = self.git.resolve("HEAD")
            if head:
                self.git.run("read-tree", head, environment=environment)
            listed = ("-z", "--modified", "--others", "--exclude-standard")
            names = self.git.run("ls-files", *listed, environment=environment).split(b"\0")
            present = [name for name in names if os.access(os.path.join(os.fsencode(self.files.root), name), os.R_OK)]
            stdin = b"".join(name + b"\0" for name in present if name and not name.endswith(b"/"))
            self.git.run("update-index", "--add", "--replace", "-z", "--stdin", stdin=stdin, environment=environment)
            tree = self.git.text("write-tree", environment=environment)
        finally:
            index.unlink(missing_ok=True)
        commit = self.git.commit_tree(tree, [head] if head else [], "What lay in the working copy\n")
        name = f"refs/lobwife/rescued/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        self.git.run("update-ref", name, commit)
        return name

    # --- the index
    def _repair_index(self) -> None:
        """Make an index anew that is missing, cut off or damaged."""
        if not self._index_is_sound() and (head := self.git.resolve("HEAD")):
            self._make_index(head)
            self.notices.append("made git's index anew")

    def _index_is_sound(self) -> bool:
        try:
            content = (self.folder / "index").read_bytes()
        except FileNotFoundError:
            return False
        algorithm, size = ("sha256", 32) if len(self.files.null_id) == 64 else ("sha1", 20)
        checksum = content[-size:]
        right = hashlib.new(algorithm, content[:-size], usedforsecurity=False).digest()
        return content[:4] == b"DIRC" and checksum in (right, bytes(size))

    def _make_index(self, head: str) -> None:
        (self.folder / "index").unlink(missing_ok=True)
        self.worktree.set_index(self.git.entries(head, recursive=True).items())

    def rebuild_index(self) -> None:
        """Replace an index that git can't use, or that holds an unfinished merge."""
        with contextlib.suppress(GitError):
            rescued = self._rescue()
            self.notices.append(f"git's index could not be used; the working copy is kept as {rescued}")
        head = self.git.resolve("HEAD")
        if head:
            self._make_index(head)


def _git_works_in(root: pathlib.Path) -> bool:
    """Return True when a process named git has its working directory in the vault. The caller has the lock."""
    inside = f"{os.path.realpath(root)}/"
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/comm") as file:
                if not file.read().startswith("git"):
                    continue
            if f"{os.readlink(f'/proc/{entry.name}/cwd')}/".startswith(inside):
                return True
        except OSError:
            continue
    return False


def _booted_at() -> float:
    with open("/proc/stat") as file:
        return next(float(line.split()[1]) for line in file if line.startswith("btime "))
