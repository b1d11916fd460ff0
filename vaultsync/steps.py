"""The steps of one sync: commit what people edited, fetch, merge theirs, write the notes anew, commit, push.

Our own commits hold nothing that the database doesn't. While they are not pushed they are thrown away and made anew on
top of what people committed, so that only people's work is ever merged. The working copy is touched in one place, the
checkout; until then a sync makes objects that nobody sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.timestamps import utc_now
from tasks.models import Task
from tasks.services import events_after, newest_event_id
from vaultsync import services
from vaultsync.git.command import BRANCH, NETWORK_SECONDS, Entry, Git
from vaultsync.git.files import Files
from vaultsync.git.merge import Changes, Sides, merge_trees
from vaultsync.git.remote import ACCEPTED, TRACKED, Behind, Remote, RemoteError
from vaultsync.git.setup import mark_committed, seed_files
from vaultsync.git.worktree import Worktree, is_on_branch
from vaultsync.models import Kind, NoteProblem, NoteRecord
from vaultsync.notes.layout import OVERVIEW, SYSTEM, TASK_FOLDERS, is_safe_slug, task_of_path
from vaultsync.notes.overview import changed_overview
from vaultsync.notes.texts import forget_pushed
from vaultsync.notes.writer import NoteSource, NoteWriter
from vaultsync.vault import SyncObserver, SyncResult, Vault

_TRIES = 5
_EVENT_BATCH = 2000
_FEW = 100  # tasks whose files are looked at one by one
# The commit of the last sync, and the newest one below it that is not ours: what is between them is made anew.
_WRITTEN = "refs/lobwife/written"
_PEOPLE = "refs/lobwife/people"
_MAIN = f"refs/heads/{BRANCH}"


class SyncSteps:
    """The steps of one sync of a vault that is set up and locked."""

    def __init__(
        self, vault: Vault, observer: SyncObserver, git: Git, files: Files, worktree: Worktree, result: SyncResult
    ) -> None:
        self.observer = observer
        self.git = git
        self.files = files
        self.result = result
        self.worktree = worktree
        self.vault = vault
        self.state = services.vault_state()
        self.remote: Remote | None = None
        self.head: str | None = None
        self.refs: dict[str, str] = {}
        self.problems: list[NoteProblem] = []

    def run(self, url: str | None, *, full: bool, fetch: bool, respect_back_off: bool, dry_run: bool) -> None:
        """Raises GitError, Blocked, OSError, UnmergedIndex or RemoteError."""
        self.remote = Remote(self.git, url, self.vault.token) if url else None
        if dry_run:
            self.head = self.git.resolve("HEAD")
            ids, _ = self._tasks_with_events(full=full)
            notes = self._write(NoteSource(self.head, self.head), ids, is_new=False, dry_run=True)
            self.problems += notes.problems
            return
        self.worktree.finish_checkout()
        self._find_head()
        ids, cursor = self._tasks_with_events(full=full or self.head is None)
        backing_off = respect_back_off and services.is_backing_off(until=self.state.remote_retry_at, now=utc_now())
        scan = fetch or ids is None or self._is_written_elsewhere(ids)
        tip = self._fetch() if scan and not backing_off else None
        if self.head is None and self.remote and (backing_off or self.result.remote_error):
            self.result.remote_error = self.result.remote_error or "the vault waits for its first fetch"
            return
        paths = [] if scan or ids is None else self._paths_of(ids)
        for attempt in range(_TRIES):
            if scan or paths or ids or tip or self.head != self.refs.get(_WRITTEN):
                self._integrate(tip, ids, cursor, self._edits(paths, scan=scan), scan=scan)
            scan, ids, paths = False, set(), self.worktree.late
            self.worktree.late = []
            if paths and attempt < _TRIES - 1:
                continue
            rejection = self._push(backing_off=backing_off)
            tip = self._fetch_again(rejection) if rejection is not None else None
            if tip is None:
                return
        raise RemoteError("unreachable", "the remote moved on five times while we pushed; tried again later")

    # --- what there is to do
    def _tasks_with_events(self, *, full: bool) -> tuple[set[int] | None, int]:
        """Return the tasks that changed since the last sync, None for all of them, and the cursor behind them."""
        if full or self.state.committed is None:
            return None, newest_event_id()
        ids: set[int] = set()
        cursor = self.state.committed
        while events := events_after(cursor, limit=_EVENT_BATCH):
            ids |= {event.task_id for event in events}
            cursor = events[-1].pk
        return ids, cursor

    def _is_written_elsewhere(self, ids: set[int]) -> bool:
        """Return True when others may have written into the notes first: of new tasks, and of system tasks."""
        if not ids or self.remote is None:
            return len(ids) > _FEW
        has_note = NoteRecord.objects.filter(pk__in=ids).count() if len(ids) <= _FEW else 0
        return has_note < len(ids) or Task.objects.filter(pk__in=ids, type=SYSTEM).exists()

    def _paths_of(self, ids: set[int]) -> list[str]:
        slugs = Task.objects.filter(pk__in=ids).values_list("slug", flat=True)
        names = [f"T{task}" for task in ids] + [slug for slug in slugs if is_safe_slug(slug)]
        return [f"{folder}/{name}.md" for folder in TASK_FOLDERS for name in names]

    def _edits(self, paths: Sequence[str], *, scan: bool) -> dict[str, Entry | None]:
        """Return what people changed in the working copy: anywhere, or at some paths."""
        if not scan and not paths:
            return {}
        return self.worktree.changes(self.head, placed=self.refs.get(_WRITTEN), paths=paths)

    # --- HEAD and remote
    def _find_head(self) -> None:
        is_attached = is_on_branch(self.files)
        self.refs = self.git.refs()
        if self.remote:
            self.remote.accepted = self.refs.get(ACCEPTED) or self.refs.get(TRACKED)
        self.head = self.refs.get(_MAIN) if is_attached else self.git.resolve("HEAD")
        main = self.refs.get(_MAIN)
        if is_attached:
            return
        if self.head and main and not self.git.is_ancestor(main, self.head):
            current = self._commit_edits(self._edits([], scan=True))
            merged = self._merge(current, main)
            self.worktree.checkout(tree=current or main, head=self.head, to=merged, refs={})
            self.head = merged
        elif self.head:
            self.git.set_refs({_MAIN: self.head})
            self.git.run("symbolic-ref", "HEAD", _MAIN)

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

    def _fetch_again(self, rejection: str) -> str | None:
        """Fetch after a push that was rejected; raises RemoteError when nothing is there that is not here."""
        tip = self._fetch()
        if not self.result.remote_error and (tip is None or (self.head and self.git.is_ancestor(tip, self.head))):
            sentence = f"the remote refuses the push though nobody pushed there: {rejection}; look for a lock there"
            raise RemoteError("declined", sentence)
        return tip

    def record_remote_error(self, error: RemoteError) -> None:
        """Keep an error of the remote for the status; it is tried again later."""
        self.result.remote_error = str(error)
        services.record_remote_failure(kind=error.kind, sentence=str(error), ahead=self._ahead())

    # --- people's work
    def _commit_edits(self, edits: dict[str, Entry | None]) -> str | None:
        """Return a commit of what people changed in the working copy, on top of HEAD; HEAD itself without any."""
        if not edits:
            return self.head
        message = f"[sync] Take in {_count_files(edits)} file(s) edited here\n"
        return self.git.commit_files(edits, [self.head] if self.head else [], message)

    def _below_ours(self, tip: str | None) -> str | None:
        """Return the newest commit below our unpushed ones; HEAD when there are none to throw away."""
        written, people = self.refs.get(_WRITTEN), self.refs.get(_PEOPLE)
        if not self.head or not written or not people or people == written:
            return self.head
        accepted = tip or (self.remote.accepted if self.remote else None)
        if accepted and self.git.is_ancestor(written, accepted):
            return self.head
        return people if self.git.is_ancestor(written, self.head) else self.head

    def _without_ours(self, below: str, current: str) -> str:
        """Return people's work without our unpushed commits: what is here now, without our changes of single notes.

        Where we moved, adopted or put notes beside each other it stays so: people may have gone on from there.
        """
        written = self.refs[_WRITTEN]
        if current == written:
            return below
        later = {change.path for change in self.git.diff(written, current)}
        ours = [change for change in self.git.diff(below, written) if change.old and change.new]
        changes: Changes = {change.path: (change.old_mode, change.old) for change in ours if change.path not in later}
        parent = below if self.head == written else str(self.head)
        message = f"[sync] Take in {_count_files(later)} file(s) edited here\n"
        return self.git.commit_files(changes, [parent], message, tree=self.git.tree_of(current))

    def _merge(self, ours: str | None, theirs: str) -> str:
        """Return a commit of both histories; what both changed stays as theirs has it, with ours beside it."""
        if ours is None or self.git.is_ancestor(ours, theirs):
            return theirs
        base = self.git.text("merge-base", ours, theirs, accept=(0, 1)) or None
        before, mine, other = (self.git.tree_of(commit) for commit in (base, ours, theirs))
        merge = merge_trees(self.git, self.files, Sides(before, mine, other, ours, theirs))
        self.problems += [
            NoteProblem.new(path, Kind.CONFLICT, f"edited on both sides; ours is in {copy}")
            for path, copy in merge.conflicts
        ]
        self.observer.on_step("merged")
        return self.git.commit_files(merge.changes, [ours, theirs], "[sync] Merge the remote\n", tree=merge.tree)

    def _integrate(
        self, tip: str | None, ids: set[int] | None, cursor: int, edits: dict[str, Entry | None], *, scan: bool
    ) -> None:
        """Bring people's work together, write the notes on top of it, and go there with the working copy."""
        current = self._commit_edits(edits)
        below = self._below_ours(tip)
        is_behind = tip is not None and not (self.head and self.git.is_ancestor(tip, self.head))
        people = current
        if current and below and below != self.head and (edits or is_behind):
            people = self._without_ours(below, current)
        if tip is not None and is_behind:
            people = self._merge(people, tip)
        source = NoteSource(people, self._seen_by_others(tip if is_behind else people), self.head, frozenset(edits))
        notes = self._write(source, ids, is_new=self.head is None and tip is None)
        commit = self._commit(notes.changes, people)
        if commit:
            is_on_ours = people == self.head == self.refs.get(_WRITTEN)
            refs = {_WRITTEN: commit, _PEOPLE: below if is_on_ours else people, ACCEPTED: tip}
            self._go_to(commit, current, {name: value for name, value in refs.items() if value})
        self.result.files += _count_files(edits)
        self._record(notes, cursor, full=ids is None, scan=scan)

    def _seen_by_others(self, theirs: str | None) -> str | None:
        """Return the commit of ours that others had when they made a commit of theirs."""
        written = self.refs.get(_WRITTEN)
        if written is None or theirs is None or theirs == written:
            return written
        return self.git.text("merge-base", written, theirs, accept=(0, 1)) or None

    # --- our work
    def _write(self, source: NoteSource, ids: set[int] | None, *, is_new: bool, dry_run: bool = False) -> NoteWriter:
        """Plan the notes of tasks, of all tasks for None, and of those that others changed since we last wrote."""
        notes = NoteWriter(self.git, self.files, source, dry_run=dry_run)
        if ids is None:
            notes.write_all(self.observer.on_progress)
        else:
            notes.write(ids | self._tasks_of(self._incoming_paths(source.commit)))
        if is_new:
            present = self.git.entries(source.commit, recursive=True)
            notes.changes |= {path: content for path, content in seed_files(self.files).items() if path not in present}
        self._write_overview(notes)
        self.result.paths = sorted(
            {*self.result.paths, *(path for path, new in notes.changes.items() if new is not None)}
        )
        if dry_run:
            self.result.files = len(self.result.paths)
        return notes

    def _incoming_paths(self, people: str | None) -> list[str]:
        """Return the paths that others changed since we last wrote, or that we wrote and threw away."""
        written = self.refs.get(_WRITTEN)
        return [change.path for change in self.git.diff(written, people)] if written and people else []

    def _tasks_of(self, paths: Iterable[str]) -> set[int]:
        """Return the tasks whose notes these are, by number or by slug."""
        tasks, names = set(), set()
        for path in paths:
            task = task_of_path(path)
            folder, _, name = path.rpartition("/")
            if task is not None:
                tasks.add(task)
            elif folder in TASK_FOLDERS and name.endswith(".md"):
                names.add(name.removesuffix(".md"))
        return tasks | set(Task.objects.filter(slug__in=names).values_list("pk", flat=True) if names else [])

    def _write_overview(self, notes: NoteWriter) -> None:
        mode, blob = notes.overview_entry()
        if mode and not mode.startswith("100"):
            notes.problems.append(NoteProblem.new(OVERVIEW, Kind.UNREADABLE, "it is not a regular file"))
            return
        before = self.git.blobs([blob]).get(blob) if not notes.changes else None
        after = changed_overview(before, something_changed=bool(notes.changes))
        if after is not None:
            notes.changes[OVERVIEW] = after

    def _commit(self, changes: dict[str, bytes | Entry | None], people: str | None) -> str | None:
        """Return a commit of the notes on top of people's; theirs itself when there is nothing to write."""
        if not changes:
            return people
        count = _count_files(changes)
        commit = self.git.commit_files(changes, [people] if people else [], f"[sync] Update {count} vault file(s)\n")
        self.result.files += count
        self.observer.on_step("commit-made")
        return commit

    def _go_to(self, commit: str, current: str | None, refs: dict[str, str]) -> None:
        """Go to a commit with working copy, index, branch and refs."""
        if commit != self.head or current != self.head:
            self.worktree.checkout(tree=current or self.git.tree_of(None), head=self.head, to=commit, refs=refs)
            mark_committed(self.files)
            self.result.commit = commit
            services.save_state(last_commit=commit)
        elif any(self.refs.get(name) != value for name, value in refs.items()):
            self.git.set_refs(refs)
        self.head = commit
        self.refs |= {**refs, _MAIN: commit}
        if self.remote:
            self.remote.accepted = refs.get(ACCEPTED, self.remote.accepted)

    def _record(self, notes: NoteWriter, cursor: int, *, full: bool, scan: bool) -> None:
        """Record what was written; the cursor moves last."""
        services.save_records(records=notes.records)
        notes.texts.record()
        self.observer.on_step("recorded")
        if scan:
            self.worktree.report_unplaced(self.head)
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
        if cursor != self.state.committed:
            self.state.committed = cursor
            services.save_state(committed=cursor)
        self.result.full = self.result.full or full
        self.observer.on_step("cursor")

    # --- pushing
    def _push(self, *, backing_off: bool) -> str | None:
        """Push what the remote lacks; returns why it was rejected when the remote must be fetched first."""
        if self.head is None:
            return None
        if self.remote is None:
            self._save_remote({"remote_state": "none"})
            return None
        if self.result.remote_error or backing_off:
            services.save_state(ahead=self._ahead())
            return None
        if self.remote.accepted != self.head:
            self.observer.on_wait(NETWORK_SECONDS + 10)
            try:
                self.remote.push(self.head)
            except Behind as error:
                return str(error)
            except RemoteError as error:
                self.record_remote_error(error)
                return None
            self.git.set_refs({ACCEPTED: self.head, _PEOPLE: self.head})
            self.refs |= {_PEOPLE: self.head}
            self.result.pushed = True
            self.observer.on_step("pushed")
        self._save_remote({"remote_state": "ok", "pushed": self.state.committed})
        return None

    def _save_remote(self, values: dict[str, object]) -> None:
        forget_pushed()
        values = {**values, "remote_error": "", "remote_failures": 0, "remote_retry_at": None, "ahead": 0}
        if any(getattr(self.state, name) != value for name, value in values.items()):
            services.save_state(**values)

    def _ahead(self) -> int:
        if self.remote is None or self.head is None:
            return 0
        accepted = self.remote.accepted
        span = f"{accepted}..{self.head}" if accepted else self.head
        return int(self.git.text("rev-list", "--count", span, accept=(0, 128)) or 0)


def _count_files(paths: Iterable[str]) -> int:
    """Count files; a task's note that moved is one."""
    return len({task_of_path(path) or path for path in paths})
