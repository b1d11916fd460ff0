"""The steps of one sync: fetch, merge, write, commit, push; again when the remote has moved on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from core.timestamps import utc_now
from tasks.services import events_after, newest_event_id
from vaultsync import services
from vaultsync.git.checkout import Checkout
from vaultsync.git.command import NETWORK_SECONDS, Change, Git, GitError
from vaultsync.git.files import Blocked, Files
from vaultsync.git.merge import merge_trees
from vaultsync.git.remote import Behind, Remote, RemoteTrouble
from vaultsync.git.setup import check_head, seed_if_new, settle
from vaultsync.git.worktree import UnmergedIndex, WorkingCopy
from vaultsync.models import Kind, NoteProblem
from vaultsync.notes.layout import BRANCH, OVERVIEW, task_of_path
from vaultsync.notes.overview import write_overview
from vaultsync.notes.reconcile import reconcile
from vaultsync.notes.writer import NoteWriter
from vaultsync.services import Report
from vaultsync.vault import SyncObserver, SyncResult, Vault

_TRIES = 5
# The last commit of which every note was compared with its task. What lies between it and HEAD is looked at by the next
# sync, whoever committed it and however the last one ended.
_WRITTEN = "refs/lobwife/written"
_EVENTS_AT_ONCE = 2000


class Round:
    """One pass over a vault that is open and locked."""

    def __init__(self, vault: Vault, observer: SyncObserver, git: Git, files: Files, result: SyncResult) -> None:
        self.observer = observer
        self.git = git
        self.files = files
        self.result = result
        self.working = WorkingCopy(git, files)
        self.checkout = Checkout(git, files, observer.on_step)
        self.state = services.vault_state()
        self.head: str | None = None
        self.written: str | None = None
        self.reports: list[Report] = []
        url = git.remote_url()
        self.remote = Remote(git, url, vault.token) if url else None

    def run(self, *, full: bool, fetch: bool, patient: bool, dry_run: bool) -> None:
        """Raises GitError, Blocked, OSError, UnmergedIndex or RemoteTrouble when it can't be done."""
        if dry_run:
            self.head = self.git.resolve("HEAD")
            self._write(full=full or self.state.committed is None, dry_run=True)
            return
        self._find_head()
        resting = patient and services.rests(until=self.state.remote_retry_at, now=utc_now())
        look = fetch or full or self.head is None or self.state.committed is None
        full = full or self.head is None or self.state.committed is None
        tip = self._fetched() if look and not resting else None
        if self.head is None and self.remote and (resting or self.result.remote_error):
            self.result.remote_error = self.result.remote_error or "the vault waits for its first fetch"
            return
        for _ in range(_TRIES):
            if tip and not (self.head and self.git.is_ancestor(tip, self.head)):
                self._integrate(tip)
            if tip and self.remote:
                self.remote.accept(tip)
            self._write_and_commit(full=full, look=look)
            full, look = False, False
            if not self._pushed(resting=resting):
                return
            tip = self._fetched()
            if tip is None:
                return
        raise RemoteTrouble("unreachable", "the remote moved on five times while we pushed; tried again later")

    # --- where we stand
    def _find_head(self) -> None:
        self.checkout.finish()
        self.written = self.git.resolve(_WRITTEN)
        attached = check_head(self.files)
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

    def _fetched(self) -> str | None:
        if self.remote is None:
            return None
        self.observer.on_wait(NETWORK_SECONDS + 10)
        try:
            tip = self.remote.fetch()
        except RemoteTrouble as trouble:
            self.note_trouble(trouble)
            return None
        self.observer.on_step("fetched")
        return tip

    def note_trouble(self, trouble: RemoteTrouble) -> None:
        """Keep what is wrong with the remote for the status; it is tried again later."""
        self.result.remote_error = str(trouble)
        services.record_remote_failure(kind=trouble.kind, sentence=str(trouble), ahead=self._ahead())

    # --- merging
    def _integrate(self, tip: str) -> None:
        """Bring another history in. Afterwards the working copy, the index and the branch are at the result."""
        self.working.stage(self.working.dirty())
        tree = self._index_tree()
        behind = self.head is None or self.git.is_ancestor(self.head, tip)
        if behind or not self.head:
            base = self.git.tree_of(self.head)
        else:
            found = self.git.text("merge-base", self.head, tip, accept=(0, 1))
            base = self.git.tree_of(found or None)
        theirs = self.git.tree_of(tip)
        merged = merge_trees(self.git, self.files, base=base, ours=tree, theirs=theirs)
        self.reports += [
            Report(path, Kind.CONFLICT, f"edited on both sides; ours is in {beside}") for path, beside in merged.asides
        ]
        self.observer.on_step("merged")
        to = tip
        if not (behind and merged.tree == theirs):
            parents = [tip] if behind or not self.head else [self.head, tip]
            to = self.git.commit_tree(merged.tree, parents, self._message(_files(self.git.diff(theirs, merged.tree))))
        self.checkout.go(tree=tree, head=self.head, to=to)
        self.head = to
        settle(self.files)

    # --- writing
    def _write_and_commit(self, *, full: bool, look: bool) -> None:
        if self.head is None:
            seed_if_new(self.git, self.files)
        dirty = self.working.dirty() if look else []
        notes, cursor = self._write(full=full, dry_run=False, also=[*dirty, *self._brought()])
        staged = {*notes.touched, *dirty}
        if self.working.stage(staged):
            self.observer.on_step("staged")
            self._commit()
        self.reports += [Report(path, Kind.BLOCKED, sentence) for path, sentence in self.checkout.reported]
        self.checkout.reported.clear()
        services.save_records(records=notes.records)
        self.observer.on_step("recorded")
        self._keep_reports(notes, full=full, look=look)
        if cursor != self.state.committed:
            self.state.committed = cursor
            services.save_state(committed=cursor)
        if self.head and self.written != self.head:
            self.git.run("update-ref", _WRITTEN, self.head)
            self.written = self.head
        self.result.full = self.result.full or full
        self.observer.on_step("cursor")

    def _brought(self) -> list[str]:
        """Paths that came in by commits since the last look."""
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
            while events := events_after(cursor, limit=_EVENTS_AT_ONCE):
                ids |= {event.task_id for event in events}
                cursor = events[-1].pk
            notes.write(ids)
        try:
            if write_overview(self.files, something_changed=bool(notes.touched), dry_run=dry_run):
                notes.touched.add(OVERVIEW)
        except Blocked as error:
            notes.reports.append(Report(OVERVIEW, Kind.UNREADABLE, str(error)))
        self.result.paths = sorted({*self.result.paths, *notes.touched})
        if dry_run:
            self.result.files = len(self.result.paths)
            self.reports += notes.reports
        return notes, cursor

    def _commit(self) -> None:
        tree = self._index_tree()
        before = self.git.tree_of(self.head)
        if tree == before:
            return
        changed = _files(self.git.diff(before, tree))
        parents = [self.head] if self.head else []
        commit = self.git.commit_tree(tree, parents, self._message(changed))
        self.observer.on_step("commit-made")
        self.git.run("update-ref", "-m", "sync", f"refs/heads/{BRANCH}", commit, self.head or "0" * len(commit))
        self.head = commit
        self.result.files += changed
        self.result.commit = commit
        settle(self.files)
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

    def _keep_reports(self, notes: NoteWriter, *, full: bool, look: bool) -> None:
        reports = [*self.reports, *notes.reports, *self.working.reports]
        named = {(each.path, each.kind) for each in reports}
        cleared = (
            [kind for kind, found in ((Kind.UNREADABLE, full), (Kind.BLOCKED, look)) if found]
            if NoteProblem.objects.exists()
            else []
        )
        for kind in cleared:
            known = NoteProblem.objects.filter(kind=kind).values_list("path", flat=True)
            services.clear_reports(kind=kind, paths=[path for path in known if (path, kind) not in named])
        if not full and notes.readable and NoteProblem.objects.filter(kind=Kind.UNREADABLE).exists():
            services.clear_reports(kind=Kind.UNREADABLE, paths=[path for path in notes.readable if path])
        services.report(reports=reports)
        services.forget_old_reports()
        self.reports.clear()
        self.working.reports.clear()

    # --- pushing
    def _pushed(self, *, resting: bool) -> bool:
        """Send what the remote lacks; True when it has moved on and must be fetched first."""
        if self.head is None:
            return False
        if self.remote is None:
            self._save_pushed("none")
            return False
        if self.result.remote_error or resting:
            services.save_state(ahead=self._ahead())
            return False
        if self.remote.accepted() != self.head:
            self.observer.on_wait(NETWORK_SECONDS + 10)
            try:
                self.remote.push(self.head)
            except Behind:
                return True
            except RemoteTrouble as trouble:
                self.note_trouble(trouble)
                return False
            self.result.pushed = True
            self.observer.on_step("pushed")
        self._save_pushed("ok")
        return False

    def _save_pushed(self, remote_state: str) -> None:
        wanted = {
            "pushed": self.state.committed,
            "remote_state": remote_state,
            "remote_error": "",
            "remote_failures": 0,
            "remote_retry_at": None,
            "ahead": 0,
        }
        if any(getattr(self.state, name) != value for name, value in wanted.items()):
            services.save_state(**wanted)

    def _ahead(self) -> int:
        if self.remote is None or self.head is None:
            return 0
        accepted = self.remote.accepted()
        span = f"{accepted}..{self.head}" if accepted else self.head
        return int(self.git.text("rev-list", "--count", span, accept=(0, 128)) or 0)


def _files(changes: Sequence[Change]) -> int:
    """How many files changed; a task's note that moved is one."""
    return len({task_of_path(change.path) or change.path for change in changes})
