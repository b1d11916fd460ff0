"""A sync: commit what people edited, fetch, merge theirs, write the notes anew from the tasks, commit, push.

Our own commits hold nothing that the database doesn't. While they are not pushed they are thrown away and made anew on
top of what people committed, so that only people's work is merged. The working copy is touched in one place, the
checkout; until then a sync makes objects that nobody sees. After a kill at any point the next sync does the rest:
cursors move last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable
from datetime import timedelta

from django.db.models import Max

from core.git.command import BRANCH, NETWORK_SECONDS, Changes, Git, GitError
from core.git.lock import vault_lock
from core.text import one_line
from core.timestamps import utc_now
from tasks.models import Task, TaskEvent
from tasks.services import newest_event_id
from vaultsync import services
from vaultsync.git.files import Blocked, Files
from vaultsync.git.merge import merge_commits
from vaultsync.git.recovery import Recovery
from vaultsync.git.remote import ACCEPTED, TRACKED, Remote, RemoteError
from vaultsync.git.setup import Disabled, open_vault, seed_files
from vaultsync.git.worktree import JOURNAL, OURS, WRITTEN, Worktree, is_on_branch
from vaultsync.models import NoteRecord, Problems, SyncRequest, SyncRun, VaultState
from vaultsync.notes.layout import SYSTEM, TASKS, task_of_path
from vaultsync.notes.texts import forget_pushed
from vaultsync.notes.writer import NoteWriter
from vaultsync.vault import SyncObserver, SyncResult, Vault

log = logging.getLogger(__name__)
FULL_EVERY = timedelta(hours=6)
_GC_EVERY = timedelta(days=1)
_GC_SECONDS = 900
_TRIES = 5
_FEW = 2000  # tasks of which is looked up whether others may have written their notes
_MAIN = f"refs/heads/{BRANCH}"
# The newest commit below that of the last checkout that is not ours: what is between them is made anew.
_PEOPLE = f"{OURS}people"


class Sync:
    """One sync of a vault; `observer` hears how it goes."""

    def __init__(self, vault: Vault, observer: SyncObserver | None = None) -> None:
        self.vault = vault
        self.observer = observer or SyncObserver()
        self.git = Git(vault.path)
        self.files = Files(vault.path)
        self.problems = Problems()
        self.worktree = Worktree(self.git, self.files, self.problems, self.observer.on_step)
        self.recovery = Recovery(self.git, self.files, self.worktree)
        self.result = SyncResult()
        self.state = VaultState()
        self.remote: Remote | None = None
        self.head: str | None = None
        self.refs: dict[str, str] = {}
        self.has_looked_around = False

    def run(
        self,
        *,
        reason: str,
        full: bool = False,
        fetch: bool = True,
        respect_back_off: bool = False,
        dry_run: bool = False,
        wait_seconds: float = 0,
    ) -> SyncResult:
        """Sync; raises Unavailable when another process keeps the lock longer than `wait_seconds`.

        `respect_back_off` leaves a remote alone that failed lately. Without `fetch` the remote is asked only when
        others may have written a note first, and when a push finds that it has moved on.
        """
        with vault_lock(self.vault.state_dir, wait_seconds=wait_seconds) as self.git.lock:
            run, clock = SyncRun(started_at=utc_now(), reason=reason), time.monotonic()
            served = SyncRequest.objects.aggregate(newest=Max("pk"))["newest"]
            self.state = services.vault_state()
            self._run(full=full, fetch=fetch, respect_back_off=respect_back_off, dry_run=dry_run)
            if not dry_run:
                run.seconds = round(time.monotonic() - clock, 3)
                services.record_sync(run=run, result=self.result, served=served)
                _log(run, self.result)
            return self.result

    def _run(self, *, full: bool, fetch: bool, respect_back_off: bool, dry_run: bool) -> None:
        """Open the vault and sync it; what goes wrong is in the result."""
        try:
            if dry_run:
                self._plan(full=full)
                return
            self.recovery.remove_stale_locks()
            url = open_vault(self.vault.path, self.vault.repo, self.git, self.files)
            self.remote = Remote(self.git, url, self.vault.token) if url else None
            with self.recovery:
                self.recovery.run()
                self._sync(full=full, fetch=fetch, respect_back_off=respect_back_off)
                self._collect_garbage()
        except Disabled as error:
            self.result.disabled = one_line(str(error))
        except RemoteError as error:
            self._record_remote_error(error)
        except (GitError, Blocked) as error:
            self.result.error = one_line(str(error))
        except OSError as error:
            self.result.error = f"the vault can't be written or read: {error.strerror or error}"
        self.result.notices += map(one_line, self.recovery.notices)

    def _plan(self, *, full: bool) -> None:
        if not (self.vault.path / ".git").is_dir():
            raise Disabled("there is no vault yet; a sync without --dry-run makes it")
        self.head = self.git.resolve("HEAD")
        notes = NoteWriter(self.git, self.files, self.head, self.head, dry_run=True)
        self._write(notes, self._tasks_with_events(full=full)[0], is_new=False)
        self.result.files = len(self.result.paths)

    def _sync(self, *, full: bool, fetch: bool, respect_back_off: bool) -> None:
        self._find_head()
        ids, cursor = self._tasks_with_events(full=full or self.head is None)
        backing_off = respect_back_off and services.is_backing_off(until=self.state.remote_retry_at, now=utc_now())
        fetch = fetch or ids is None or self._is_written_elsewhere(ids)
        tip = None
        try:
            tip = self._fetch() if fetch and not backing_off else None
        except RemoteError as error:
            self._record_remote_error(error)
        if self.head is None and self.remote and (backing_off or self.result.remote_error):
            self.result.remote_error = self.result.remote_error or "the vault waits for its first fetch"
            return
        self.has_looked_around = fetch
        if fetch:
            self.worktree.look_around(self.head)
        records = NoteRecord.objects.filter(pk__in=[] if fetch or ids is None else ids)
        paths: Collection[str] = list(records.values_list("path", flat=True))
        look = fetch or bool(ids) or self.head != self.refs.get(WRITTEN)
        for attempt in range(_TRIES):
            if look or tip:
                self._integrate(tip, ids, cursor, paths)
            paths = list(self.worktree.edited)
            look, ids, tip = bool(paths), set(), None
            if look and attempt < _TRIES - 1:
                continue
            try:
                self._push(backing_off=backing_off)
                return
            except RemoteError as error:
                if error.kind != "behind":
                    raise
                tip = self._fetch()
                if tip is None or (self.head and self.git.is_ancestor(tip, self.head)):
                    sentence = f"the remote refuses the push though nobody pushed there: {error}; look for a lock there"
                    raise RemoteError("declined", sentence) from None
        raise RemoteError("unreachable", "the remote moved on five times while we pushed; tried again later")

    # --- what there is to do
    def _find_head(self) -> None:
        is_attached = is_on_branch(self.files)
        self.refs = self.git.refs()
        self.head = self.refs.get(_MAIN) if is_attached else self.git.resolve("HEAD")
        if f"{JOURNAL}to" in self.refs:
            self.worktree.finish_checkout(self.refs, self.head)
            self._find_head()
        elif TRACKED in self.refs:
            self.refs.setdefault(ACCEPTED, self.refs[TRACKED])

    def _tasks_with_events(self, *, full: bool) -> tuple[set[int] | None, int]:
        """Return the tasks that changed since the last sync, None for all of them, and the cursor behind them."""
        cursor = newest_event_id()
        if full or self.state.committed is None:
            return None, cursor
        if self.state.committed == cursor:
            return set(), cursor
        events = TaskEvent.objects.filter(pk__gt=self.state.committed, pk__lte=cursor).order_by()
        return set(events.values_list("task_id", flat=True).distinct()), cursor

    def _is_written_elsewhere(self, ids: set[int]) -> bool:
        """Return True when others may have written into the notes first: of new tasks, and of system tasks."""
        if not ids or len(ids) > _FEW:
            return bool(ids)
        is_new = NoteRecord.objects.filter(pk__in=ids).count() < len(ids)
        return is_new or Task.objects.filter(pk__in=ids, type=SYSTEM).exists()

    # --- people's work
    def _integrate(self, tip: str | None, ids: set[int] | None, cursor: int, paths: Collection[str]) -> None:
        """Bring people's work together, write the notes on top of it, and go there with the working copy."""
        written = self.refs.get(WRITTEN)
        edits = self.worktree.edits(self.head, written, paths=paths)
        current = self.head
        if edits:
            message = f"[sync] Take in {_count_files(edits)} file(s) edited here\n"
            current = self.git.commit_files(edits, [self.head] if self.head else [], message)
        is_behind = tip is not None and not (self.head and self.git.is_ancestor(tip, self.head))
        people, below = current, self.refs.get(_PEOPLE)
        if is_behind and current == written and below:
            people = below
        if self.head != self.refs.get(_MAIN):  # it is detached
            people = self._merge(people, self.refs.get(_MAIN))
        people = self._merge(people, tip)
        base = self._seen_by_others(tip if is_behind else people)
        notes = NoteWriter(self.git, self.files, people, base, self.head, edits.keys())
        self._write(notes, ids, is_new=self.head is None and tip is None)
        commit = self._commit(notes.changes, people)
        if commit:
            below = below if people == self.head == written else people
            refs = {_PEOPLE: below, ACCEPTED: tip}
            self._go_to(commit, current, {name: value for name, value in refs.items() if value})
        self.result.files += _count_files(edits)
        self._record(notes, cursor, full=ids is None)

    def _merge(self, ours: str | None, theirs: str | None) -> str | None:
        commit = merge_commits(self.git, ours, theirs, self.problems)
        self.observer.on_step("merged")
        return commit

    def _seen_by_others(self, theirs: str | None) -> str | None:
        """Return the commit of ours that others had when they made a commit of theirs."""
        written = self.refs.get(WRITTEN)
        return self.git.merge_base(written, theirs) if written and theirs and theirs != written else written

    # --- our work
    def _write(self, notes: NoteWriter, ids: set[int] | None, *, is_new: bool) -> None:
        """Plan the notes of tasks, of all tasks for None, and of those that others changed since we last wrote."""
        others = self._tasks_changed_since(self.refs.get(WRITTEN), notes.commit) if ids is not None else set()
        notes.write(None if ids is None else ids | others, self.observer.on_progress)
        if is_new:
            present = self.git.entries(notes.commit, recursive=True)
            notes.changes |= {path: content for path, content in seed_files().items() if path not in present}
        notes.write_overview()
        written = {path for path, new in notes.changes.items() if new is not None}
        self.result.paths = sorted(written.union(self.result.paths))

    def _tasks_changed_since(self, written: str | None, people: str | None) -> set[int]:
        """Return the tasks whose notes, by number or by slug, others changed, or we wrote and threw away."""
        paths = [change.path for change in self.git.diff(written, people)] if written and people else []
        slugs = [path.rpartition("/")[2].removesuffix(".md") for path in paths if path.startswith(TASKS)]
        by_slug = Task.objects.filter(slug__in=slugs).values_list("pk", flat=True) if slugs else []
        return {task for path in paths if (task := task_of_path(path))}.union(by_slug)

    def _commit(self, changes: Changes, people: str | None) -> str | None:
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
        if not commit == current == self.head == self.refs.get(WRITTEN) or not is_on_branch(self.files):
            tree = current or self.git.tree_of(None)
            self.worktree.checkout(tree=tree, head=self.head, to=commit, refs=refs)
            if commit != self.head:
                self.result.commit = commit
                services.save_state(last_commit=commit)
        elif any(self.refs.get(name) != value for name, value in refs.items()):
            self.git.set_refs(refs)
        self.head = commit
        self.refs |= {**refs, _MAIN: commit, WRITTEN: commit}

    def _record(self, notes: NoteWriter, cursor: int, *, full: bool) -> None:
        """Record what was written; the cursor moves last."""
        services.save_records(records=notes.records)
        notes.texts.record()
        self.observer.on_step("recorded")
        problems = [*self.problems, *notes.problems]
        seen = None if full else notes.seen
        services.save_problems(problems=problems, seen=seen, blocked_is_over=self.has_looked_around)
        if cursor != self.state.committed:
            self.state.committed = cursor
            services.save_state(committed=cursor)
        self.result.full = self.result.full or full
        self.observer.on_step("cursor")

    # --- the remote
    def _fetch(self) -> str | None:
        if self.remote is None:
            return None
        self.observer.on_wait(NETWORK_SECONDS + 10)
        tip = self.remote.fetch(self.refs.get(ACCEPTED))
        self.observer.on_step("fetched")
        return tip

    def _push(self, *, backing_off: bool) -> None:
        """Push what the remote lacks; raises RemoteError, as behind when the remote must be fetched first."""
        if self.head is None:
            return
        if self.remote is None:
            self._save_remote({"remote_state": "none"})
            return
        if self.result.remote_error or backing_off:
            services.save_state(ahead=self._ahead())
            return
        if self.refs.get(ACCEPTED) != self.head:
            self.observer.on_wait(NETWORK_SECONDS + 10)
            self.remote.push(self.head, self.refs.get(ACCEPTED))
            refs = {ACCEPTED: self.head, _PEOPLE: self.head}
            self.git.set_refs(refs)
            self.refs |= refs
            self.result.pushed = True
            self.observer.on_step("pushed")
        self._save_remote({"remote_state": "ok", "pushed": self.state.committed})

    def _save_remote(self, values: dict[str, object]) -> None:
        forget_pushed()
        values = {**values, "remote_error": "", "remote_failures": 0, "remote_retry_at": None, "ahead": 0}
        if any(getattr(self.state, name) != value for name, value in values.items()):
            services.save_state(**values)

    def _record_remote_error(self, error: RemoteError) -> None:
        """Keep an error of the remote for the status; it is tried again later."""
        self.result.remote_error = one_line(str(error))
        services.record_remote_failure(kind=error.kind, sentence=self.result.remote_error, ahead=self._ahead())

    def _ahead(self) -> int:
        if self.remote is None or self.head is None:
            return 0
        accepted = self.refs.get(ACCEPTED)
        span = f"{accepted}..{self.head}" if accepted else self.head
        return int(self.git.text("rev-list", "--count", span, accept=(0, 128)) or 0)

    def _collect_garbage(self) -> None:
        """Once a day, with a full reconcile: nothing else packs what the syncs leave."""
        if self.result.full and (self.state.gc_at is None or self.state.gc_at < utc_now() - _GC_EVERY):
            services.save_state(gc_at=utc_now())
            if self.state.gc_at is not None:
                self.observer.on_wait(_GC_SECONDS)
                self.git.run("gc", "--quiet", timeout=_GC_SECONDS)


def _log(run: SyncRun, result: SyncResult) -> None:
    for sentence in filter(None, (*result.notices, result.remote_error)):
        log.warning("vault: %s", sentence)
    if result.disabled or result.error:
        log.error("vault: %s", run.error)
    if run.pk:
        log.info("vault: synced, files: %d, in %.2f s, for %s", run.files, run.seconds, run.reason)


def _count_files(paths: Iterable[str]) -> int:
    """Count files; a task's note that moved is one."""
    return len({task_of_path(path) or path for path in paths})
