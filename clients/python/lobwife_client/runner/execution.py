"""One lease, from the claim to the release: prepare a folder, run the command while the lease lives, report."""

from __future__ import annotations

import logging
import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lobwife_client.errors import LobwifeError, Refused
from lobwife_client.lease import Lease

from . import environment, output, repositories
from .process import Ending, Process
from .state import StateFile
from .usage import UsageFile
from .workspace import Workspace, filled_in

log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1
_CLONE_SECONDS = 3600.0
_FINISH_SECONDS = 30.0  # for a command that has released its task itself
_MEANWHILE_SECONDS = 2.0
_RELEASED = "lease_released"  # the code of a lease that its own holder has ended


@dataclass(frozen=True)
class Options:
    """What `lobwife-agent run` was asked for."""

    command: tuple[str, ...]
    name: str
    url: str
    workdir: pathlib.Path
    ca_file: str | None = None
    git_base: str = environment.GITHUB
    types: tuple[str, ...] = ()
    repos: tuple[str, ...] = ()
    lease_seconds: int = 900
    most: int = 1
    once: bool = False
    pass_on: tuple[str, ...] = ()
    on_failure: str = "failed"
    attempts: int = 3
    grace: float = 10.0
    timeout: float | None = None
    output_limit: int = 10 * 2**20
    keep: int = 10
    machine: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


class Stopped(Exception):
    """The work was stopped, and nothing of it is to be reported as done."""


class NotPrepared(Exception):
    """The machine could not begin with the task; the sentence says why."""


class Execution:
    """The work on one task. `run()` is for a thread of its own."""

    def __init__(
        self,
        lease: Lease,
        options: Options,
        state: StateFile,
        stopping: threading.Event,
        supervisor: subprocess.Popen[bytes],
    ) -> None:
        """`supervisor` waits for the first command."""
        self._lease, self._options, self._state, self._stopping = lease, options, state, stopping
        self._task: Mapping[str, Any] = lease.task
        self.task_id = str(self._task["task_id"])
        self._supervisor: subprocess.Popen[bytes] | None = supervisor
        self._process: Process | None = None
        self._since = time.time()
        self._workspace: Workspace | None = None

    def run(self) -> bool:
        """Work on the task to its end; return False when the machine is to blame that there was no work."""
        try:
            return self._run()
        finally:
            self._state.set(self._task["id"], None)
            if self._workspace is not None:
                self._workspace.close()
            if self._supervisor is not None:
                self._supervisor.communicate()  # without a command it ends

    def hurry(self) -> None:
        """Cut the grace of the command short."""
        if self._process is not None:
            self._process.stop(at_once=True)

    def _run(self) -> bool:
        self._lease.start_beating()
        try:
            self._report(self._work())
        except Stopped as stop:
            log.warning("%s was stopped: %s", self.task_id, stop)
            self._release("queued", str(stop))
        except NotPrepared as trouble:
            log.error("%s could not be begun: %s", self.task_id, trouble)
            self._release(self._unless_too_often("queued"), str(trouble))
            return False
        except repositories.BadRepository as error:
            self._release("failed", str(error))
        except Exception as error:
            log.exception("%s: the runner failed", self.task_id)
            if self._process is not None:
                self._process.end()
            self._release(self._unless_too_often("queued"), f"the runner failed: {error!r}")
            return False
        finally:
            self._lease.stop_beating()
        return True

    # --- work
    def _work(self) -> Ending:
        """Return how the command ended by itself; raises Stopped, NotPrepared, BadRepository."""
        options = self._options
        try:
            workspace = self._workspace = Workspace(
                options.workdir, self._task, self._lease.fence, identity=options.name, keep=options.keep
            )
        except OSError as error:
            raise NotPrepared(f"its folder could not be made: {error.strerror or error}") from None
        variables = self._variables(workspace)
        self._clone(workspace, variables)
        self._say("running")
        usage = UsageFile(workspace.usage, f"{self.task_id}.{self._lease.fence}/usage")
        command = filled_in(options.command, self.task_id, workspace)
        ending = self._supervise(
            lambda: self._start(command, variables, workspace.directory, workspace.output, options.timeout),
            lambda: usage.report(self._lease.client.within(0), self.task_id),
        )
        usage.report(self._lease.client, self.task_id)
        if ending.outcome == "error":
            raise NotPrepared(ending.note)
        return ending

    def _variables(self, workspace: Workspace) -> dict[str, str]:
        options = self._options
        variables = {
            "HOME": str(workspace.home),
            **environment.passed_on(options.pass_on, options.machine),
            "TASK_ID": self.task_id,
            "LOBWIFE_URL": options.url,
            "LOBWIFE_API_KEY": self._lease.key,
            "LOBWIFE_FENCE": str(self._lease.fence),
            "LOBWIFE_USAGE_FILE": str(workspace.usage),
        }
        if options.ca_file:
            variables["LOBWIFE_CA_FILE"] = options.ca_file
        return {**variables, **environment.git_variables(options.git_base, variables.get("PATH", os.defpath))}

    def _clone(self, workspace: Workspace, variables: Mapping[str, str]) -> None:
        """Clone the task's repositories; one alone is where the command starts. Raises as _work() does."""
        base = self._options.git_base
        folders = repositories.folders_of(self._task.get("repos") or (), base)
        guarded = {**variables, **repositories.clone_variables(base)}
        for name, folder in folders.items():
            self._say(f"cloning {name}")
            target = workspace.work / folder
            command = repositories.clone_command(name, base, target)

            def start(command: list[str] = command) -> Process:
                return self._start(command, guarded, workspace.work, workspace.preparation, _CLONE_SECONDS)

            ending = self._supervise(start)
            if not ending.is_success:
                raise NotPrepared(f"{name} could not be cloned: {_reason(ending, workspace.preparation)}")
            if len(folders) == 1:
                workspace.directory = target

    def _start(
        self,
        command: list[str],
        variables: Mapping[str, str],
        directory: pathlib.Path,
        file: pathlib.Path,
        timeout: float | None,
    ) -> Process:
        options = self._options
        supervisor, self._supervisor = self._supervisor, None
        try:
            return Process(
                command,
                environment=variables,
                directory=directory,
                output=file,
                output_limit=options.output_limit,
                grace=options.grace,
                timeout=timeout,
                secrets=[self._lease.key, *environment.secrets_among(options.pass_on, options.machine)],
                supervisor=supervisor,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise NotPrepared(f"no process could be started: {error}") from None

    def _supervise(self, start: Callable[[], Process], meanwhile: Callable[[], None] | None = None) -> Ending:
        """Return how a process ended by itself; raises Stopped after it was ended, with all that it had started.

        `meanwhile` is called now and then in a thread: a server that does not answer must not delay the process's end.
        """
        if reason := self._stop_reason():
            raise Stopped(reason)
        process = self._process = start()
        next_look, finish_until = time.monotonic() + _MEANWHILE_SECONDS, None
        helper: threading.Thread | None = None
        while (ending := process.wait(_LOOK_SECONDS)) is None:
            now = time.monotonic()
            if meanwhile and now >= next_look and not (helper and helper.is_alive()):
                next_look = now + _MEANWHILE_SECONDS
                helper = threading.Thread(target=meanwhile, name=f"usage of {self.task_id}", daemon=True)
                helper.start()
            reason = self._stop_reason()
            if reason and self._lease.stop_code == _RELEASED and not self._stopping.is_set():
                finish_until = finish_until or now + _FINISH_SECONDS
                if now < finish_until:
                    continue
            if reason:
                self._say("stopping")
                ending = process.end()
                if ending.outcome != "exited":  # it may have ended by itself a moment before
                    raise Stopped(reason)
                return ending
        return ending

    def _stop_reason(self) -> str:
        """Return why the work is to stop; empty while it may go on."""
        if self._stopping.is_set():
            return f"the runner {self._options.name} was stopped"
        if self._lease.stopped.is_set():
            return self._lease.stop_reason or "the lease is over"
        if self._lease.seconds_left < min(self._options.grace, self._lease.seconds / 4):
            return "lobwife could not be reached until the end of the lease"
        return ""

    # --- report
    def _report(self, ending: Ending) -> None:
        """Say how it ended, unless the command has released its task itself."""
        if self._workspace is None:
            return
        self._say("reporting")
        how = f"{ending} after {ending.seconds:.0f} s"
        log.info("%s: %s", self.task_id, how)
        if not self._lease.stopped.is_set():
            self._write_result(ending, how)
        if ending.is_success:
            self._release("completed", how)
        else:
            self._release(self._unless_too_often(self._options.on_failure), _reason(ending, self._workspace.output))

    def _write_result(self, ending: Ending, how: str) -> None:
        """Give the end of the output as the task's result, unless the command wrote one."""
        if self._workspace is None:
            return
        lines = output.last_lines(self._workspace.output)
        data = {"exit_code": ending.exit_code, "seconds": round(ending.seconds, 1), "runner": self._options.name}
        try:
            # While nobody answers, the release needs some of the lease, too.
            client = self._lease.client.within(self._lease.seconds_left / 2)
            if client.task(self.task_id).get("result") == self._task.get("result"):
                client.set_result(self.task_id, "\n\n".join(filter(None, (how, lines))), data=data)
        except LobwifeError as error:
            log.warning("%s: the result could not be written: %s", self.task_id, error)

    def _release(self, outcome: str, reason: str) -> None:
        """Hand the task back; while nobody answers, until the lease is over."""
        try:
            self._lease.release(outcome, reason)
        except LobwifeError as error:
            if not (isinstance(error, Refused) and error.code == _RELEASED):
                log.warning("%s was not handed back: %s", self.task_id, error)
        else:
            log.info("%s is %s", self.task_id, outcome)

    def _unless_too_often(self, outcome: str) -> str:
        """Return failed in the place of queued for the last attempt."""
        is_last = int(self._task.get("attempt") or 1) >= self._options.attempts
        return "failed" if outcome == "queued" and is_last else outcome

    def _say(self, phase: str) -> None:
        log.debug("%s: %s", self.task_id, phase)
        workspace = self._workspace
        self._state.set(
            self._task["id"],
            {
                "task_id": self.task_id,
                "name": self._task["name"],
                "fence": self._lease.fence,
                "attempt": self._task.get("attempt"),
                "phase": phase,
                "since": self._since,
                "folder": str(workspace.path) if workspace else None,
                "output": str(workspace.output) if workspace else None,
            },
        )


def _reason(ending: Ending, file: pathlib.Path) -> str:
    return " · ".join(filter(None, (str(ending), output.last_line(file))))
