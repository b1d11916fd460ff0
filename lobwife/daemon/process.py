"""The daemon: the only process that starts scripts, syncs the vault, expires things, looks after the database."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler

from django.conf import settings
from django.db import close_old_connections, transaction
from django.db.utils import DatabaseError, InterfaceError

from core import processes
from core.database.backend import Listener, data_version, listener
from core.timestamps import utc_now
from jobs import nodes
from jobs.alerts import rules
from jobs.execution.process import boot_id
from jobs.execution.runner import Runner
from jobs.models import DEFAULT_LABEL, NodeKind
from jobs.models import Daemon as DaemonRow
from jobs.scheduling.due import settle_foreign_runs
from lobwife import __version__
from lobwife.daemon.leader_work import Work, of_lead
from lobwife.daemon.leadership import Candidacy, Lead, candidacy
from lobwife.daemon.scheduler import Clock

log = logging.getLogger(__name__)
_TICK_SECONDS = 1.0  # without a commit: a write of the sqlite3 shell, and a clock that was set, are noticed so late
_SHORTEST_TICK_SECONDS = 0.03
_RUNS_SECONDS = 2.0
_REFRESH_SECONDS = 1.0  # an edited job may be planned so much later, for not every commit is one
_REFRESH_ANYWAY_SECONDS = 30.0
_LONGEST_BACKOFF = 5.0
_STEP_DOWN_SECONDS = 60.0
_LOW_DISK_BYTES = 16 * 2**20
_LOG_BYTES, _OLD_LOGS = 5 * 2**20, 3


class Daemon:
    """A daemon: it executes runs and, while it leads, does what one does for all. `run()` returns its exit code.

    Of a state directory there is one, which leads; on a database with a server any number, of which one leads. A runner
    is one that never leads, and serves other labels.
    """

    def __init__(
        self, kind: NodeKind = NodeKind.DAEMON, labels: Sequence[str] = (DEFAULT_LABEL,), slots: int | None = None
    ) -> None:
        self.kind = kind
        self._heartbeat = nodes.Heartbeat(kind, labels)
        self.runner = Runner(labels, slots=slots, node=self._heartbeat.node, wake=self._wake)
        self.work: Work | None = None  # while it leads
        self._candidacy = Candidacy() if kind == NodeKind.RUNNER else candidacy()
        self._clock = Clock()
        self._stop_requested = self._plan_again = False
        self._signal_pipe = self._wake_end = -1
        self._commits: Listener
        self._seen_version: tuple[object, int] | None = None
        self._runs_checked = self._beaten = self._refreshed = 0.0
        self._is_refresh_due = False
        self._failures = 0
        self._ends_until = 0.0

    def run(self) -> int:
        """Work until SIGTERM or SIGINT; raises Conflict when another daemon has this state directory."""
        self._candidacy.stand()
        if self.kind == NodeKind.DAEMON:
            _log_to_file()
        self._listen_for_signals()
        leftovers = self.runner.settle_leftovers()
        settled = f"; {leftovers} runs settled" if leftovers else ""
        log.info("the %s starts (version %s, pid %s)%s", self.kind, __version__, os.getpid(), settled)
        self._beat()
        self.runner.start()
        try:
            code = self._work()
        except Exception:
            log.critical("an unexpected failure; the %s exits, to be started again", self.kind, exc_info=True)
            code = 1
        self._end()
        return code

    def tick(self) -> None:
        """Beat, then handle what changed in the database and which runs ended: that may wait for other writers."""
        self._follow_lead()
        now = time.monotonic()
        clock_set = self._follow_clock()
        if clock_set or now - self._beaten >= nodes.BEAT_SECONDS:
            self._beat_unseen()
            self._beaten = now
        version = data_version()
        written = version != self._seen_version
        if written or clock_set or now - self._runs_checked >= _RUNS_SECONDS:  # time alone makes retries ready
            self.runner.tick()
            self._runs_checked = now
        else:
            self.runner.handle_soon()
        if self.work and (written or clock_set):
            self.work.wake()
        self._is_refresh_due |= written or clock_set
        if now - self._refreshed >= (_REFRESH_SECONDS if self._is_refresh_due else _REFRESH_ANYWAY_SECONDS):
            self._refresh()
            self._is_refresh_due, self._refreshed = False, now
        self._seen_version = version

    def _beat_unseen(self) -> None:
        """Beat, which concerns nobody here: it is no change of the database to look at."""
        before = data_version()[1]
        self._beat()
        if self._seen_version is not None:
            others, own = self._seen_version
            self._seen_version = others, own + data_version()[1] - before

    def _follow_clock(self) -> bool:
        """Return whether the clock was set; set back, it would postpone what is planned, so that is planned again."""
        seconds = self._clock.was_set_by()
        if seconds:
            log.warning("the clock was set %s by %.0f s", "forward" if seconds > 0 else "back", abs(seconds))
        self._plan_again |= seconds < 0
        if self._plan_again and self.work:
            with self.work.lead.bound():
                self.work.scheduler.plan()
        self._plan_again = False
        return bool(seconds)

    def _work(self) -> int:
        self._commits = listener()
        while not self._stop_requested:
            if self.work and not self.work.lead.over.is_set() and not self.work.scheduler.is_alive:
                log.critical("the scheduler's thread died; the daemon exits, to be started again")
                return 1
            if self._ends_until and time.monotonic() > self._ends_until:
                log.critical("what it did as the leader does not end; the daemon exits, to be started again")
                return 1
            started = time.monotonic()
            try:
                self._commits.drain()
                self.tick()
                self._failures = 0
                wait = _TICK_SECONDS
            except (DatabaseError, InterfaceError, OSError) as error:
                self._failures += 1
                wait = processes.backoff(self._failures, _SHORTEST_TICK_SECONDS, _LONGEST_BACKOFF)
                log.error("a tick failed and is tried again: %s", error)
                close_old_connections()
                self._seen_version = None
            self._wait(started, wait)
        return 0

    def _wait(self, started: float, wait: float) -> None:
        """Wait for a commit, a signal or the end of a child, at most so long; commits in a row are handled together.

        A tick that failed is not repeated for a commit: it would fail as often as others write.
        """
        sources = [self._signal_pipe] if self._failures else [self._signal_pipe, self._commits.fileno()]
        ready = select.select(sources, [], [], wait)[0]
        if self._signal_pipe in ready:
            os.read(self._signal_pipe, 4096)
        else:
            select.select([self._signal_pipe], [], [], max(0.0, started + _SHORTEST_TICK_SECONDS - time.monotonic()))

    def _listen_for_signals(self) -> None:
        """Have a request to stop and the end of a child interrupt the wait.

        Through a pipe and not an Event, whose lock is not for signal handlers to take.
        """
        self._signal_pipe, self._wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _wake(self) -> None:
        """Have the loop turn at once, by whichever thread this is called."""
        with contextlib.suppress(OSError):  # full: a turn is due anyway
            os.write(self._wake_end, b"\0")

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop_requested = True

    def _end(self) -> None:
        log.info("the %s stops; %s runs are given their grace", self.kind, self.runner.running)
        # An abort that is under way has its own, longer grace.
        deadline = time.monotonic() + max(settings.JOB_SHUTDOWN_GRACE_SECONDS, settings.JOB_GRACE_SECONDS) + 2
        leads = self.work is not None and not self.work.lead.over.is_set()
        try:
            if self.work:
                self.work.end()
            self.runner.shut_down(deadline)
            if self.work and leads:
                with self.work.lead.bound(), transaction.atomic():
                    DaemonRow.objects.filter(pk=DaemonRow.PK).update(pid=None)
            self._heartbeat.leave()
        except DatabaseError as error:
            log.error("what was running could not be recorded; the next start settles it: %s", error)
        if self.work:
            self.work.wait(deadline)
        self._candidacy.withdraw()
        log.info("the %s stopped", self.kind)

    def _trouble(self) -> str:
        """Return what the daemon can't do now, as a sentence; empty, as the column has it, when there is nothing."""
        of_work = self.work.troubles if self.work else []
        return "; ".join(filter(None, [_low_disk(), self.runner.trouble, *of_work]))

    def _follow_lead(self) -> None:
        """Begin the leader's work when this daemon leads, end it when it does no longer."""
        lead = self._candidacy.lead
        if self.work is None:
            if lead is not None and not lead.over.is_set():
                self._begin_work(lead)
            elif lead is not None:
                self._candidacy.resign()
        elif self.work.lead.over.is_set() and not self._ends_until:
            self._ends_until = time.monotonic() + _STEP_DOWN_SECONDS
            self._beaten = 0.0
            self.work.end()
        elif self._ends_until and self.work.is_over:
            self.work, self._ends_until = None, 0.0
            self._candidacy.resign()
            log.info("this daemon executes runs and does nothing else, until it leads again")

    def _begin_work(self, lead: Lead) -> None:
        with lead.bound():
            _register()
            settle_foreign_runs()
        work = of_lead(lead)
        work.start()
        self.work, self._beaten = work, 0.0

    def _refresh(self) -> None:
        if self.work and not self.work.lead.over.is_set():
            with self.work.lead.bound():
                self.work.scheduler.refresh()

    def _beat(self) -> None:
        trouble = self._trouble()
        leads = self.work is not None and not self.work.lead.over.is_set()
        self._heartbeat.beat(leads=leads, running=self.runner.running, trouble=trouble)
        if self.work and leads:
            with self.work.lead.bound(), transaction.atomic():
                DaemonRow.objects.filter(pk=DaemonRow.PK).update(beat_at=utc_now(), trouble=trouble)


def _register() -> None:
    now = utc_now()
    fields = {"pid": os.getpid(), "boot_id": boot_id(), "version": __version__, "started_at": now, "beat_at": now}
    with transaction.atomic():
        rules.on_daemon_start(now)
        DaemonRow.objects.update_or_create(pk=DaemonRow.PK, defaults=fields)


def _low_disk() -> str | None:
    """Return a sentence about the first disk that is about to be full, while it can still be written."""
    for folder in (settings.STATE_DIR, settings.STATE_DIR / "runs"):
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(folder).free
            if free < _LOW_DISK_BYTES:
                return f"the disk of {folder} is nearly full: {free // 2**20} MiB are free"
    return None


class _LogFile(RotatingFileHandler):
    """On a full disk the lines are on standard output only, without tracebacks of logging itself."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _log_to_file() -> None:
    root = logging.getLogger()
    handler = _LogFile(settings.STATE_DIR / "daemon.log", maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS)
    handler.setFormatter(root.handlers[0].formatter if root.handlers else None)
    root.addHandler(handler)
