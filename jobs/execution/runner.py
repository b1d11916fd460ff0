"""The runner: starts what is queued, forwards aborts, records how runs ended. Each daemon has one."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from core.database.clock import database_now
from core.errors import LobwifeError
from core.timestamps import utc_now
from jobs import secrets, services
from jobs.execution import output, output_files, process, runs, script_paths
from jobs.execution.output_shipping import shipper
from jobs.execution.queues import queue
from jobs.execution.runs import Ending, Process
from jobs.models import DEFAULT_LABEL, JobRun, Node, NodeKind, State

log = logging.getLogger(__name__)
_SUPERVISOR = str(pathlib.Path(__file__).parent.parent / "supervisor")
_ENDS = {
    "timeout": State.TIMEOUT,
    "aborted": State.ABORTED,
    "orphaned": State.LOST,
    "error": State.ERROR,
}
_UNKEPT = "the output could not be written"  # the supervisor's words


@dataclass
class Execution:
    """A run that this daemon started, and its supervisor."""

    run: JobRun
    supervisor: subprocess.Popen[bytes]
    stop_sent: bool = False
    result: Ending | None = None
    trouble: str = ""

    @property
    def has_ended(self) -> bool:
        return self.supervisor.poll() is not None


class Runner:
    """Executes runs. Its state is only what it needs to talk to its children; the rows say everything else."""

    def __init__(
        self,
        labels: Sequence[str] = (DEFAULT_LABEL,),
        *,
        slots: int | None = None,
        node: Node | None = None,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        """Execute runs that these labels are served for, so many at a time, as this node.

        `wake` is called, maybe by another thread, when there may be a run to start.
        """
        self._executions: dict[int, Execution] = {}
        self._slots = slots or settings.JOB_MAX_PARALLEL
        self._node = node
        self._is_daemon = node is None or node.kind == NodeKind.DAEMON
        self._source = queue().source(labels, self._slots, wake)
        self._shipper = shipper()
        self._unsure: list[tuple[JobRun, Process]] = []  # claimed, maybe: the database did not answer
        self.stopping = False
        self.trouble = ""  # in a sentence: what keeps runs from being kept

    def start(self) -> None:
        """Begin to look for runs; the node has to be stored by now."""
        self._source.start()

    def tick(self) -> None:
        """Handle everything once: ends, aborts, output, starts. Raises DatabaseError; then it can be called again."""
        self._take_back()
        self._collect()
        self._forward_aborts()
        self._shipper.ship(self._executions)
        if not self.stopping:
            self._start_waiting()

    def handle_soon(self) -> None:
        """Handle what no row tells of, ends and runs that were fetched: cheap, for every turn of the loop."""
        is_ended = any(execution.result or execution.has_ended for execution in self._executions.values())
        if is_ended or self._source.has_fetched():
            self.tick()

    @property
    def running(self) -> int:
        return len(self._executions)

    def settle_leftovers(self) -> int:
        """Close what an earlier process left running; its living processes are ended first. Return how many."""
        left = self._source.leftovers()
        for run in left:
            supervisor = Process(run.pid, run.pid_started, run.boot_id) if run.pid and run.pid_started else None
            grace = settings.JOB_SHUTDOWN_GRACE_SECONDS
            survivors = process.end_run(output_files.output_path(run.pk), supervisor, grace=grace)
            if supervisor and _never_started(run) and not run.abort_requested_at:
                runs.requeue(run, supervisor)
            else:
                self._shipper.ship_rest(run.pk)
                ending = _parsed(_result_file(run))
                died = _lost(
                    run,
                    State.LOST,
                    f"{run.node and 'its runner '}{run.node or 'the daemon'} died while it ran",
                    survivors,
                )
                runs.record_end(run, died if ending is None or survivors else ending)
                queue().close(run.pk)
        self._shipper.tidy()
        return len(left)

    def shut_down(self, deadline: float) -> None:
        """Start nothing more, end what runs with its grace, and record it; until the monotonic deadline."""
        self.stopping = True
        self._source.stop()
        for execution in self._executions.values():
            self._stop(
                execution,
                settings.JOB_SHUTDOWN_GRACE_SECONDS,
                by="the shutdown of the daemon" if self._is_daemon else "the shutdown of its runner",
            )
        while self._executions and time.monotonic() < deadline:
            try:
                self._collect()
            except DatabaseError as error:  # a lock or a full disk may pass; else the next start settles it
                log.error("how runs ended could not be recorded yet: %s", error)
            time.sleep(0.02)
        self._source.close(deadline)

    # --- starting
    def _start_waiting(self) -> None:
        free = self._slots - len(self._executions)
        if free <= 0 or not self._source.has_runs() or services.pause():
            return
        running_of = Counter(execution.run.job_id for execution in self._executions.values())
        for run in self._source.runs(running_of):
            if self._start(run):
                self._source.started(run.pk)
                running_of[run.job.pk] += 1
                free -= 1
            else:
                self._source.not_started(run)
            if free <= 0:
                return

    def _start(self, run: JobRun) -> bool:
        """Start one run; false when it could not be, which its row then says."""
        late = _past_deadline(run)
        if late:
            runs.record_end(run, Ending(State.SKIPPED, late))
            return False
        try:
            spec = _spec(run)
            supervisor = _spawn_supervisor(run)
        except (LobwifeError, OSError) as error:
            runs.record_end(run, Ending(State.ERROR, str(error)))
            return False
        except (LookupError, TypeError, ValueError) as error:  # edited by hand: one row must not stop the daemon
            runs.record_end(run, Ending(State.ERROR, f"its definition can't be used: {error!r}"))
            return False
        most = run.job.most_at_once if self._source.counts_others() else None
        try:
            claimant = process.identify(supervisor.pid)
            self._unsure.append((run, claimant))
            claimed = runs.record_start(run, claimant, node=self._node, most_at_once=most)
        except BaseException:
            supervisor.communicate()
            raise
        self._unsure.pop()
        if not claimed:
            supervisor.communicate()  # without its order it starts nothing
            return False
        self._executions[run.pk] = Execution(run, supervisor)
        _send(supervisor, json.dumps(spec))
        log.info("run %s of job %s started (%s)", run.pk, run.job.name, run.trigger)
        return True

    def _take_back(self) -> None:
        """Queue again what was claimed although the database did not say so: nothing of it was started."""
        while self._unsure:
            runs.requeue(*self._unsure[-1])
            self._unsure.pop()

    # --- stopping
    def _forward_aborts(self) -> None:
        """End what somebody wants ended, and what others took for lost: this runner was not heard of for a while."""
        if not self._executions:
            return
        running = JobRun.objects.filter(pk__in=self._executions, state=State.RUNNING)
        asked = {pk: (at, by) for pk, at, by in running.values_list("pk", "abort_requested_at", "abort_requested_by")}
        for pk, execution in self._executions.items():
            at, by = asked.get(pk, (utc_now(), "others, who took its runner for dead"))
            if at is not None:
                self._stop(execution, settings.JOB_GRACE_SECONDS, by=by)

    def _stop(self, execution: Execution, grace: float, *, by: str) -> None:
        if not execution.stop_sent:
            execution.stop_sent = True
            execution.run.abort_requested_by = by
            _send(execution.supervisor, f"stop {grace}")

    # --- ending
    def _collect(self) -> None:
        for pk, execution in list(self._executions.items()):
            if execution.result is None and execution.has_ended:
                execution.result, execution.trouble = _outcome(execution)
            if execution.result is not None:
                self._shipper.ship_rest(pk)
                runs.record_end(execution.run, execution.result)
                del self._executions[pk]
                self.trouble = execution.trouble
                self._source.finished(pk)
                self._shipper.let_go(pk)


def _spawn_supervisor(run: JobRun) -> subprocess.Popen[bytes]:
    """Start the run's supervisor; it waits for its order and starts nothing without it. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", _SUPERVISOR, f"run-{run.pk}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )


def _spec(run: JobRun) -> dict[str, Any]:
    """Return the supervisor's instructions; raises LobwifeError when the script can't be started."""
    definition = run.definition
    path = script_paths.find_script(definition["script"])
    definition["path"] = str(path)
    opened = secrets.open_all(definition.get("secrets"))
    environment = script_paths.script_environment(path) | {
        "LOBWIFE_JOB": run.job.name,
        **definition["environment"],
        **opened,
        "LOBWIFE_REQUEST_ID": str(definition.get("request_id") or ""),
        process.RUN_ID_VARIABLE: str(run.pk),
        process.OUTPUT_VARIABLE: str(output_files.output_path(run.pk)),
    }
    return {
        "command": [*script_paths.command(path), *definition["arguments"]],
        "environment": environment,
        "directory": definition["working_directory"] or environment.get("HOME") or "/",
        "timeout": definition["timeout_seconds"],
        "grace": settings.JOB_GRACE_SECONDS,
        "output": str(output_files.output_path(run.pk)),
        "output_limit": settings.JOB_OUTPUT_LIMIT_BYTES,
        "result": str(output_files.result_path(run.pk)),
        "secrets": [value for name, value in environment.items() if name in opened or secrets.is_secret(name)],
    }


def _past_deadline(run: JobRun) -> str:
    deadline = run.job.start_deadline_seconds
    if deadline is None or run.scheduled_for is None:
        return ""
    late = (database_now() - run.scheduled_for).total_seconds()
    return f"{late:.0f} s late, past its start deadline of {deadline} s" if late > deadline else ""


def _send(supervisor: subprocess.Popen[bytes], line: str) -> None:
    if supervisor.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it has ended; the next look collects it
            supervisor.stdin.write(line.encode() + b"\n")
            supervisor.stdin.flush()


def _outcome(execution: Execution) -> tuple[Ending, str]:
    """Return how the run ended, from the supervisor's last line, else from the file that it left."""
    run, supervisor = execution.run, execution.supervisor
    line, _ = supervisor.communicate()
    ending = _parsed(line) or _parsed(_result_file(run))
    if ending is None or supervisor.returncode:
        survivors = process.end_run(output_files.output_path(run.pk), None, grace=1)
        code = supervisor.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return _lost(run, State.ERROR, f"its parent process ended unexpectedly ({how})", survivors), ""
    if ending.state == State.ABORTED:
        ending = replace(ending, note=f"aborted by {run.abort_requested_by or 'a caller over REST'}")
    return ending, ending.note if ending.state == State.ERROR and ending.note.startswith(_UNKEPT) else ""


def _never_started(run: JobRun) -> bool:
    """Certain only within one boot: the supervisor makes the output file before it starts the script."""
    return run.boot_id == process.boot_id() and not output_files.output_path(run.pk).exists() and not _result_file(run)


def _lost(run: JobRun, state: State, cause: str, survivors: list[int]) -> Ending:
    """Return the end of a run whose supervisor said nothing of it."""
    rest = f"process {', '.join(map(str, survivors))} could not be ended" if survivors else "nothing of it is left"
    return Ending(state, f"{cause}; {rest}", output_bytes=output.size_on_disk(run.pk))


def _result_file(run: JobRun) -> bytes:
    try:
        return output_files.result_path(run.pk).read_bytes()
    except OSError:
        return b""


def _parsed(line: bytes) -> Ending | None:
    try:
        result = json.loads(line)
    except ValueError:
        return None
    state = _ENDS.get(result["outcome"]) or (State.SUCCESS if result["exit_code"] == 0 else State.FAILED)
    code, signal = result.get("exit_code"), result.get("signal")
    return Ending(state, result["note"], code, signal, result["duration"], result["bytes"])
