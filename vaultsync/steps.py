"""The steps of one sync: fetch, merge, write, commit, push; again when the remote has moved on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from core.timestamps import utc_now
from tasks.services import events_after, newest_event_id
from vaultsync import services
from vaultsync.git.command import BRANCH, NETWORK_SECONDS, Change, Git, GitError
from vaultsync.git.files import Blocked, Files
from vaultsync.git.merge import merge_trees
from vaultsync.git.remote import Behind, Remote, RemoteError
from vaultsync.git.setup import is_on_branch, mark_committed, seed_if_new
from vaultsync.git.worktree import UnmergedIndex, Worktree
from vaultsync.models import Kind, NoteProblem
from vaultsync.notes.layout import OVERVIEW, task_of_path
from vaultsync.notes.overview import write_overview
from vaultsync.notes.reconcile import reconcile
from vaultsync.notes.writer import NoteWriter
from vaultsync.vault import SyncObserver, SyncResult, Vault

_TRIES = 5
# The last commit of which every note was compared with its task. The next sync looks at what changed between it and
# HEAD, whoever committed it and however the last sync ended.
_WRITTEN = "refs/lobwife/written"
_EVENT_BATCH = 2000


class SyncSteps:
    """The steps of one sync of a vault that is set up and locked."""

    def __init__(self, vault: Vault, observer: SyncObserver, git: Git, files: Files, result: SyncResult) -> None:
        self.observer = observer
        self.git = git
        self.files = files
        self.result = result
        self.worktree = Worktree(git, files, observer.on_step)
        self.state = services.vault_state()
        self.head: str | None = None
        self.written: str | None = None
        self.problems: list[NoteProblem] = []
        url = git.remote_url()
        self.remote = Remote(git, url, vault.token) if url else None

    def run(self, *, full: bool, fetch: bool, respect_back_off: bool, dry_run: bool) -> None:
        """Raises GitError, Blocked, OSError, UnmergedIndex or RemoteError."""
        if dry_run:
            self.head = self.git.resolve("HEAD")
            self._write(full=full or self.state.committed is None, dry_run=True)
            return
        self._find_head()
        backing_off = respect_back_off and services.is_backing_off(until=self.state.remote_retry_at, now=utc_now())
        scan = fetch or full or self.head is None or self.state.committed is None
        full = full or self.head is None or self.state.committed is None
        tip = self._fetch() if scan and not backing_off else None
        if self.head is None and self.remote and (backing_off or self.result.remote_error):
            self.result.remote_error = self.result.remote_error or "the vault waits for its first fetch"
            return
        for _ in range(_TRIES):
            if tip and not (self.head and self.git.is_ancestor(tip, self.head)):
                self._integrate(tip)
            if tip and self.remote:
                self.remote.accept(tip)
            self._write_and_commit(full=full, scan=scan)
            full, scan = False, False
            if not self._push(backing_off=backing_off):
                return
            tip = self._fetch()
            if tip is None:
                return
        raise RemoteError("unreachable", "the remote moved on five times while we pushed; tried again later")

    # --- HEAD and remote
    def _find_head(self) -> None:
        self.worktree.finish_checkout()
        self.written = self.git.resolve(_WRITTEN)
        attached = is_on_branch(self.files)
        self.head = self.git.resolve("HEAD")
        if attached:
            return
        main = self.git.resolve(f"refs/heads/{BRANCH}")
        if main and self.head and not self.git.is_ancestor(main, self.head):
            self._integrate(main)
            return
        if self.head:
            self.git.run("update-ref", f"refs/heads/{BRANCH}", self.head)
        self.git.run("symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")

    def _fetch(self) -> str | None:
        if self.remote is None:
            return None
        self.observer.on_wait(NETWORK_SECONDS + 10)
        try:
            tip = self.remote.fetch()
        except RemoteError as error:
            self.record_remote_error(error)
            return None
        self.observer.on_step("fetched")
        return tip

    def record_remote_error(self, error: RemoteError) -> None:
        """Keep an error of the remote for the status; it is tried again later."""
        self.result.remote_error = str(error)
        services.record_remote_failure(kind=error.kind, sentence=str(error), ahead=self._ahead())

    # --- merging
    def _integrate(self, tip: str) -> None:
        """Merge another history; afterwards the working copy, the index and the branch are at the result."""
        self.worktree.stage(self.worktree.changed_paths())
        tree = self._index_tree()
        is_fast_forward = self.head is None or self.git.is_ancestor(self.head, tip)
        if is_fast_forward or not self.head:
            base = self.git.tree_of(self.head)
        else:
            merge_base = self.git.text("merge-base", self.head, tip, accept=(0, 1))
            base = self.git.tree_of(merge_base or None)
        theirs = self.git.tree_of(tip)
        merged = merge_trees(self.git, self.files, base=base, ours=tree, theirs=theirs)
        self.problems += [
            NoteProblem.new(path, Kind.CONFLICT, f"edited on both sides; ours is in {copy}")
            for path, copy in merged.conflicts
        ]
        self.observer.on_step("merged")
        to = tip
        if not (is_fast_forward and merged.tree == theirs):
            parents = [tip] if is_fast_forward or not self.head else [self.head, tip]
            changed = _count_files(self.git.diff(theirs, merged.tree))
            to = self.git.commit_tree(merged.tree, parents, self._message(changed))
        self.worktree.checkout(tree=tree, head=self.head, to=to)
        self.head = to
        mark_committed(self.files)

    # --- writing
    def _write_and_commit(self, *, full: bool, scan: bool) -> None:
        if self.head is None:
            seed_if_new(self.git, self.files)
        changed = self.worktree.changed_paths() if scan else []
        notes, cursor = self._write(full=full, dry_run=False, also=[*changed, *self._incoming_paths()])
        staged = {*notes.touched, *changed}
        if self.worktree.stage(staged):
            self.observer.on_step("staged")
            self._commit()
        services.save_records(records=notes.records)
        self.observer.on_step("recorded")
        self._record_problems(notes, full=full, scan=scan)
        if cursor != self.state.committed:
            self.state.committed = cursor
            services.save_state(committed=cursor)
        if self.head and self.written != self.head:
            self.git.run("update-ref", _WRITTEN, self.head)
            self.written = self.head
        self.result.full = self.result.full or full
        self.observer.on_step("cursor")

    def _incoming_paths(self) -> list[str]:
        """Return the paths that commits changed since the notes were last compared."""
        if self.head is None or self.written in (None, self.head):
            return []
        return [change.path for change in self.git.diff(str(self.written), self.head)]

    def _write(self, *, full: bool, dry_run: bool, also: Sequence[str] = ()) -> tuple[NoteWriter, int]:
        notes = NoteWriter(self.git, self.files, self.observer.on_step, dry_run=dry_run)
        cursor = self.state.committed or 0
        if full:
            cursor = newest_event_id()
            reconcile(self.files, notes, self.observer.on_progress)
        else:
            ids = {task for task in map(task_of_path, also) if task is not None}
            while events := events_after(cursor, limit=_EVENT_BATCH):
                ids |= {event.task_id for event in events}
                cursor = events[-1].pk
            notes.write(ids)
        try:
            if write_overview(self.files, something_changed=bool(notes.touched), dry_run=dry_run):
                notes.touched.add(OVERVIEW)
        except Blocked as error:
            notes.problems.append(NoteProblem.new(OVERVIEW, Kind.UNREADABLE, str(error)))
        self.result.paths = sorted({*self.result.paths, *notes.touched})
        if dry_run:
            self.result.files = len(self.result.paths)
            self.problems += notes.problems
        return notes, cursor

    def _commit(self) -> None:
        tree = self._index_tree()
        before = self.git.tree_of(self.head)
        if tree == before:
            return
        changed = _count_files(self.git.diff(before, tree))
        parents = [self.head] if self.head else []
        commit = self.git.commit_tree(tree, parents, self._message(changed))
        self.observer.on_step("commit-made")
        self.git.run("update-ref", "-m", "sync", f"refs/heads/{BRANCH}", commit, self.head or "0" * len(commit))
        self.head = commit
        self.result.files += changed
        self.result.commit = commit
        mark_committed(self.files)
        services.save_state(last_commit=commit)
        self.observer.on_step("committed")

    def _message(self, files: int) -> str:
        return f"[sync] Update {files} vault file(s)\n"

    def _index_tree(self) -> str:
        try:
            return self.git.text("write-tree")
        except GitError as error:
            if "unmerged" in error.stderr or "error building trees" in error.stderr:
                raise UnmergedIndex from None
            raise

    def _record_problems(self, notes: NoteWriter, *, full: bool, scan: bool) -> None:
        blocked = [NoteProblem.new(path, Kind.BLOCKED, sentence) for path, sentence in self.worktree.problems]
        problems = [*self.problems, *notes.problems, *blocked]
        if full:
            services.clear_problems(kind=Kind.UNREADABLE, except_for=problems)
        elif notes.readable:
            services.clear_problems(kind=Kind.UNREADABLE, paths=[path for path in notes.readable if path])
        if scan:
            services.clear_problems(kind=Kind.BLOCKED, except_for=problems)
        services.record_problems(problems=problems)
        services.delete_old_problems()
        self.problems.clear()
        self.worktree.problems.clear()

    # --- pushing
    def _push(self, *, backing_off: bool) -> bool:
        """Push what the remote lacks; returns True when the remote has moved on and must be fetched first."""
        if self.head is None:
            return False
        if self.remote is None:
            self._save_pushed("none")
            return False
        if self.result.remote_error or backing_off:
            services.save_state(ahead=self._ahead())
            return False
        if self.remote.accepted() != self.head:
            self.observer.on_wait(NETWORK_SECONDS + 10)
            try:
                self.remote.push(self.head)
            except Behind:
                return True
            except RemoteError as error:
                self.record_remote_error(error)
                return False
            self.result.pushed = True
            self.observer.on_step("pushed")
        self._save_pushed("ok")
        return False

    def _save_pushed(self, remote_state: str) -> None:
        values = {
            "pushed": self.state.committed,
            "remote_state": remote_state,
            "remote_error": "",
            "remote_failures": 0,
            "remote_retry_at": None,
            "ahead": 0,
        }
        if any(getattr(self.state, name) != value for name, value in values.items()):
            services.save_state(**values)

    def _ahead(self) -> int:
        if self.remote is None or self.head is None:
            return 0
        accepted = self.remote.accepted()
        span = f"{accepted}..{self.head}" if accepted else self.head
        return int(self.git.text("rev-list", "--count", span, accept=(0, 128)) or 0)


def _count_files(changes: Sequence[Change]) -> int:
    """Count the changed files; a task's note that moved is one."""
    return len({task_of_path(change.path) or change.path for change in changes})
