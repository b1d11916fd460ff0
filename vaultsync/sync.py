"""A sync, from the lock to the push. After a kill at any point the next one does the rest: cursors move last."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import Max

from core.timestamps import utc_now
from vaultsync import services
from vaultsync.git.command import Git, GitError
from vaultsync.git.files import Blocked, Files
from vaultsync.git.lock import vault_lock
from vaultsync.git.recovery import Recovery
from vaultsync.git.remote import RemoteError
from vaultsync.git.setup import Disabled, open_vault
from vaultsync.git.worktree import UnmergedIndex, Worktree
from vaultsync.models import SyncRequest, SyncRun, VaultState
from vaultsync.steps import SyncSteps
from vaultsync.vault import SyncObserver, SyncResult, Vault

log = logging.getLogger(__name__)
FULL_EVERY = timedelta(hours=6)
_GC_EVERY = timedelta(days=1)
_GC_SECONDS = 900


@dataclass
class Sync:
    """Syncs one vault; `observer` hears how it goes."""

    vault: Vault
    observer: SyncObserver = field(default_factory=SyncObserver)

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
        """Sync once; raises Unavailable when another process keeps the lock longer than `wait_seconds`.

        `respect_back_off` leaves a remote alone that failed lately. Without `fetch` the remote is asked only when a
        push finds that it has moved on.
        """
        with vault_lock(self.vault.state_dir, wait_seconds=wait_seconds) as lock:
            started, clock = utc_now(), time.monotonic()
            served = SyncRequest.objects.aggregate(newest=Max("pk"))["newest"]
            result = self._run_locked(lock, full=full, fetch=fetch, respect_back_off=respect_back_off, dry_run=dry_run)
            result.escape()
            if dry_run:
                return result
            run = SyncRun(
                started_at=started,
                seconds=round(time.monotonic() - clock, 3),
                reason=reason,
                full=result.full,
                files=result.files,
                commit=result.commit,
                pushed=result.pushed,
                error=result.disabled or result.error or result.remote_error,
            )
            self._record(result, run, served)
            return result

    def _run_locked(self, lock: int, *, full: bool, fetch: bool, respect_back_off: bool, dry_run: bool) -> SyncResult:
        git, files, result = Git(self.vault.path, lock=lock), Files(self.vault.path), SyncResult()
        worktree = Worktree(git, files, self.observer.on_step)
        recovery = Recovery(git, files, worktree)
        steps = SyncSteps(self.vault, self.observer, git, files, worktree, result)
        try:
            if dry_run and not (self.vault.path / ".git").is_dir():
                raise Disabled("there is no vault yet; a sync without --dry-run makes it")
            if not dry_run:
                recovery.remove_stale_locks()
            is_new, url = open_vault(self.vault.path, self.vault.repo, git, files)
        except Blocked as error:
            result.error = str(error)
            return result
        except (Disabled, GitError, OSError) as error:
            result.disabled = str(error)
            return result
        try:
            if not dry_run:
                recovery.run()
                recovery.begin()
            steps.run(url, full=full or is_new, fetch=fetch, respect_back_off=respect_back_off, dry_run=dry_run)
            self._collect_garbage(git, result)
        except UnmergedIndex:
            result.error = _rebuild_index(recovery)
        except RemoteError as error:
            steps.record_remote_error(error)
        except (GitError, Blocked) as error:
            result.error = str(error)
        except OSError as error:
            result.error = f"the vault can't be written or read: {error.strerror or error}"
        if not dry_run:
            try:
                recovery.end()
            except OSError as error:
                log.warning("vault: %s", error)
        result.notices += recovery.notices
        return result

    def _record(self, result: SyncResult, run: SyncRun, served: int | None) -> None:
        """Record the result, and delete the requests that were served."""
        now = utc_now()
        problem = result.disabled or result.error
        for notice in result.notices:
            log.warning("vault: %s", notice)
        if problem:
            log.error("vault: %s", problem)
            services.record_failure(sentence=problem)
            services.save_state(disabled_reason=result.disabled)
        else:
            changes = {"disabled_reason": "", "failures": 0, "retry_at": None, "last_sync_at": now}
            changes |= {"last_full_at": now} if result.full else {}
            is_over = not result.remote_error and not services.vault_state().remote_failures
            changes |= {"last_error": "", "last_error_at": None} if is_over else {}
            services.save_state(**changes)
        if result.remote_error:
            log.warning("vault: %s", result.remote_error)
        if served is not None and not problem:
            services.delete_requests(up_to=served)
        if run.files or run.commit or run.error or run.full or served is not None:
            services.record_run(run=run)
            log.info("vault: synced %d file(s) in %.2f s, for %s", run.files, run.seconds, run.reason)

    def _collect_garbage(self, git: Git, result: SyncResult) -> None:
        """Once a day, with a full reconcile: nothing else packs what the syncs leave."""
        state = VaultState.objects.first()
        if not result.full or state is None:
            return
        if state.gc_at is None or state.gc_at < utc_now() - _GC_EVERY:
            services.save_state(gc_at=utc_now())
            if state.gc_at is not None:
                self.observer.on_wait(_GC_SECONDS)
                git.run("gc", "--quiet", timeout=_GC_SECONDS)


def _rebuild_index(recovery: Recovery) -> str:
    """Rebuild the index; returns the sentence for the status."""
    problem = "git's index held an unfinished merge"
    try:
        recovery.rebuild_index()
    except (GitError, OSError) as error:
        return f"{problem} and could not be rebuilt: {error}"
    return f"{problem}; it is rebuilt, and the sync tried again"
