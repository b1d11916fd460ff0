"""Repairs before a sync: stale locks, unfinished merges and rebases, a broken index."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import time

from vaultsync.git.command import BRANCH, Git, GitError
from vaultsync.git.files import Blocked, Files

_RUNNING = "busy.json"
_LOCKS = ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock", f"refs/heads/{BRANCH}.lock")
_SURELY_OLD_SECONDS = 600
_REBASES = ("rebase-merge", "rebase-apply")
_OTHERS = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")


class Recovery:
    """Repairs what an interrupted git, or an interrupted sync, left behind."""

    def __init__(self, git: Git, files: Files) -> None:
        self.git = git
        self.files = files
        self.folder = files.root / ".git"
        self.notices: list[str] = []

    def run(self) -> None:
        """Repair what can be; raises Blocked, with a sentence, for what must not be touched."""
        self._remove_stale_locks()
        self._end_merges()
        self._repair_index()

    # --- syncs
    def begin(self) -> None:
        """Note that a sync of ours is under way, so that a lock it leaves behind when killed is known as ours."""
        note = json.dumps({"since": time.time()}).encode()
        (self.files.scratch / _RUNNING).write_bytes(note)

    def end(self) -> None:
        (self.files.scratch / _RUNNING).unlink(missing_ok=True)

    def _killed_since(self) -> float | None:
        """Return the start of the sync that was killed, if one was. Call it while the vault's lock is held."""
        try:
            return float(json.loads((self.files.scratch / _RUNNING).read_bytes())["since"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    # --- locks
    def _remove_stale_locks(self) -> None:
        for name in _LOCKS:
            path = self.folder / name
            try:
                created_at = path.lstat().st_mtime
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not self._owner_is_gone(created_at):
                raise Blocked(f"another git works in the vault (.git/{name}); tried again later")
            path.unlink(missing_ok=True)
            self.notices.append(f"removed .git/{name}, whose owner is gone")

    def _owner_is_gone(self, created_at: float) -> bool:
        """Return True for a lock of a killed sync, or one that is too old, when no git works here that we can see."""
        if _git_works_in(self.files.root):
            return False
        killed = self._killed_since()
        from_ours = killed is not None and created_at >= killed - 1
        return from_ours or created_at < _booted_at() or created_at < time.time() - _SURELY_OLD_SECONDS

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
            self.git.run("add", "-A", ".", environment=environment)
            tree = self.git.text("write-tree", environment=environment)
        finally:
            index.unlink(missing_ok=True)
        commit = self.git.commit_tree(tree, [head] if head else [], "What lay in the working copy\n")
        name = f"refs/lobwife/rescued/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        self.git.run("update-ref", name, commit)
        return name

    # --- the index
    def _repair_index(self) -> None:
        path = self.folder / "index"
        try:
            with path.open("rb") as file:
                sound = file.read(4) == b"DIRC"
        except FileNotFoundError:
            sound = False
        if sound or not self.git.resolve("HEAD"):
            return
        path.unlink(missing_ok=True)
        self.git.run("read-tree", "HEAD")
        self.git.run("update-index", "-q", "--refresh", accept=(0, 1))
        self.notices.append("made git's index anew")

    def rebuild_index(self) -> None:
        """Replace an index that git can't use, or that holds an unfinished merge."""
        with contextlib.suppress(GitError):
            rescued = self._rescue()
            self.notices.append(f"git's index could not be used; the working copy is kept as {rescued}")
        (self.folder / "index").unlink(missing_ok=True)
        if self.git.resolve("HEAD"):
            self.git.run("read-tree", "HEAD")
            self.git.run("update-index", "-q", "--refresh", accept=(0, 1))


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
