"""The runner: starts what is queued, forwards aborts, records how runs ended. Only the daemon has one."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from core.errors import LobwifeError
from core.timestamps import utc_now
from jobs import services
from jobs.execution import output, process, runs, script_paths
from jobs.execution.runs import Ending, Process
from jobs.models import JobRun, State
from jobs.secret_fields import is_secret

log = logging.getLogger(__name__)
_PARENT = str(pathlib.Path(__file__).parent.parent / "supervisor")
_ENDS = {
    "timeout": State.TIMEOUT,
    "aborted": State.ABORTED,
    "orphaned": State.LOST,
    "error": State.ERROR,
}
_UNKEPT = "the output could not be written"  # the parent's words


@dataclass
class Execution:
    """A run that this daemon started."""

    run: JobRun
    parent: subprocess.Popen[bytes]
    stop_sent: bool = False
    result: Ending | None = None
    trouble: str = ""


class Runner:
    """Executes runs. Its state is only what it needs to talk to its children; the rows say everything else."""

    def __init__(self) -> None:
        self._executions: dict[int, Execution] = {}
        self.stopping = False
        self.trouble = ""  # in a sentence: what keeps runs from being kept

    def tick(self) -> None:
        """One look at everything: ends, aborts, starts. Raises DatabaseError, after which it can be called again."""
        self._collect()
        self._forward_aborts()
        if not self.stopping:
            self._start_waiting()

    def collect_ended(self) -> None:
        """Only the ends: cheap, for every turn of the loop, since no row tells of them."""
        if any(each.result or each.parent.poll() is not None for each in self._executions.values()):
            self.tick()

    @property
    def running(self) -> int:
        return len(self._executions)

    def settle_leftovers(self) -> int:
        """Close what an earlier daemon left running; its living processes are ended first. Returns how many."""
        left = list(JobRun.objects.select_related("job").filter(state=State.RUNNING).order_by("id"))
        for run in left:
            found = Process(run.pid, run.pid_started, run.boot_id) if run.pid and run.pid_started else None
            survivors = process.end_run(output.output_path(run.pk), found, grace=settings.JOB_SHUTDOWN_GRACE_SECONDS)
            if _never_started(run) and not run.abort_requested_at:
                runs.requeue(run)
                continue
            runs.record_end(run, _left_behind(run, survivors))
        output.delete_results()
        return len(left)

    def shut_down(self, deadline: float) -> None:
        """Start nothing more, end what runs with its grace, and record it; until the monotonic deadline."""
        self.stopping = True
        for execution in self._executions.values():
            self._stop(execution, settings.JOB_SHUTDOWN_GRACE_SECONDS, by="the shutdown of the daemon")
        while self._executions and time.monotonic() < deadline:
            try:
                self._collect()
            except DatabaseError as error:  # a lock or a full disk may pass; else the next start settles it
                log.error("how runs ended could not be recorded yet: %s", error)
            time.sleep(0.02)

    # --- starting
    def _start_waiting(self) -> None:
        free = settings.JOB_MAX_PARALLEL - len(self._executions)
        ready = JobRun.objects.ready(utc_now()).select_related("job")
        if free <= 0 or not ready.exists() or services.is_paused():
            return
        running_of: dict[int, int] = {}
        for execution in self._executions.values():
            running_of[execution.run.job_id] = running_of.get(execution.run.job_id, 0) + 1
        full: set[int] = set()
        while free > 0 and (run := ready.exclude(job__in=full).first()):
            job = run.job
            if running_of.get(job.pk, 0) >= job.most_at_once:
                full.add(job.pk)
            elif self._start(run):
                free -= 1
                running_of[job.pk] = running_of.get(job.pk, 0) + 1

    def _start(self, run: JobRun) -> bool:
        """Start one run; false when it could not be, which its row then says."""
        late = _past_deadline(run)
        if late:
            runs.record_end(run, Ending(State.SKIPPED, late))
            return False
        try:
            spec = _spec(run)
            parent = _spawn_parent(run)
        except (LobwifeError, OSError) as error:
            runs.record_end(run, Ending(State.ERROR, str(error)))
            return False
        except (LookupError, TypeError, ValueError) as error:  # edited by hand: one row must not stop the daemon
            runs.record_end(run, Ending(State.ERROR, f"its definition can't be used: {error!r}"))
            return False
        try:
            claimed = runs.record_start(run, process.identify(parent.pid))
        except BaseException:
            _dismiss(parent)
            raise
        if not claimed:
            _dismiss(parent)
            return False
        self._executions[run.pk] = Execution(run, parent)
        _tell(parent, json.dumps(spec))
        log.info("run %s of job %s started (%s)", run.pk, run.job.name, run.trigger)
        return True

    # --- stopping
    def _forward_aborts(self) -> None:
        if not self._executions:
            return
        asked = JobRun.objects.filter(pk__in=self._executions, abort_requested_at__isnull=False)
        for pk, by in asked.values_list("pk", "abort_requested_by"):
            self._stop(self._executions[pk], settings.JOB_GRACE_SECONDS, by=by)

    def _stop(self, execution: Execution, grace: float, *, by: str) -> None:
        if not execution.stop_sent:
            execution.stop_sent = True
            execution.run.abort_requested_by = by
            _tell(execution.parent, f"stop {grace}")

    # --- ending
    def _collect(self) -> None:
        for pk, execution in list(self._executions.items()):
            if execution.result is None and execution.parent.poll() is not None:
                execution.result, execution.trouble = _outcome(execution)
            if execution.result is not None:
                runs.record_end(execution.run, execution.result)
                del self._executions[pk]
                self.trouble = execution.trouble
                with contextlib.suppress(OSError):
                    output.result_path(pk).unlink(missing_ok=True)


def _spawn_parent(run: JobRun) -> subprocess.Popen[bytes]:
    """The run's own parent process; it waits for its order and starts nothing without it. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", _PARENT, f"run-{run.pk}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )


def _spec(run: JobRun) -> dict[str, Any]:
    """Return the supervisor's instructions; raises LobwifeError when the script can't be started."""
    definition = run.definition
    path = script_paths.find_script(definition["script"])
    environment = script_paths.script_environment() | {
        "LOBWIFE_JOB": run.job.name,
        **definition["environment"],
        "LOBWIFE_REQUEST_ID": str(definition.get("request_id") or ""),
        process.RUN_ID_VARIABLE: str(run.pk),
        process.OUTPUT_VARIABLE: str(output.output_path(run.pk)),
    }
    return {
        "command": [*script_paths.command(path), *definition["arguments"]],
        "environment": environment,
        "directory": definition["working_directory"] or environment.get("HOME") or "/",
        "timeout": definition["timeout_seconds"],
        "grace": settings.JOB_GRACE_SECONDS,
        "output": str(output.output_path(run.pk)),
        "output_limit": settings.JOB_OUTPUT_LIMIT_BYTES,
        "result": str(output.result_path(run.pk)),
        "secrets": [value for name, value in environment.items() if is_secret(name)],
    }


def _past_deadline(run: JobRun) -> str:
    deadline = run.job.start_deadline_seconds
    if deadline is None or run.scheduled_for is None:
        return ""
    late = (utc_now() - run.scheduled_for).total_seconds()
    return f"{late:.0f} s late, past its start deadline of {deadline} s" if late > deadline else ""


def _tell(parent: subprocess.Popen[bytes], line: str) -> None:
    if parent.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError):  # it has ended; the next look collects it
        parent.stdin.write(line.encode() + b"\n")
        parent.stdin.flush()


def _dismiss(parent: subprocess.Popen[bytes]) -> None:
    """Let a parent go that was not given its order: it starts nothing."""
    if parent.stdin:
        parent.stdin.close()
    if parent.stdout:
        parent.stdout.close()
    parent.wait()


def _outcome(execution: Execution) -> tuple[Ending, str]:
    """Return how the run ended, from the supervisor's last line, else from the file that it left."""
    run, parent = execution.run, execution.parent
    line = parent.stdout.read() if parent.stdout else b""
    for stream in (parent.stdin, parent.stdout):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    ending = _parsed(run, line) or _parsed(run, _left_result(run))
    if ending is None:
        survivors = process.end_run(output.output_path(run.pk), None, grace=1)
        note = f"its parent process ended unexpectedly ({_how(parent.returncode)}); the script was ended"
        return Ending(State.ERROR, note + _still_there(survivors), output_bytes=output.size_on_disk(run.pk)), ""
    if ending.state == State.ABORTED:
        ending = replace(ending, note=f"aborted by {run.abort_requested_by or 'a caller over REST'}")
    return ending, ending.note if ending.state == State.ERROR and ending.note.startswith(_UNKEPT) else ""


def _never_started(run: JobRun) -> bool:
    """Certain only within one boot: the parent makes the output file before it starts the script."""
    return run.boot_id == process.boot_id() and not output.output_path(run.pk).exists() and not _left_result(run)


def _left_behind(run: JobRun, survivors: list[int]) -> Ending:
    ending = _parsed(run, _left_result(run))
    if ending is not None and not survivors:
        return ending
    note = "the daemon died while it ran; nothing of it is left" if not survivors else "the daemon died while it ran"
    return Ending(State.LOST, note + _still_there(survivors), output_bytes=output.size_on_disk(run.pk))


def _still_there(survivors: list[int]) -> str:
    return f"; process {', '.join(map(str, survivors))} could not be ended" if survivors else ""


def _left_result(run: JobRun) -> bytes:
    try:
        return output.result_path(run.pk).read_bytes()
    except OSError:
        return b""


def _parsed(run: JobRun, line: bytes) -> Ending | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    state = _ENDS.get(told["outcome"]) or (State.SUCCESS if told["exit_code"] == 0 else State.FAILED)
    return Ending(state, told["note"], told.get("exit_code"), told.get("signal"), told["duration"], told["bytes"])


def _how(returncode: int) -> str:
    return f"exit code {returncode}" if returncode >= 0 else f"signal {-returncode}"
