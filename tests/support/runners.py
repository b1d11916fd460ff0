"""Runners as on several machines: real processes on the tests' PostgreSQL, each with a state directory of its own."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

from django.db import connection

from jobs.models import Job, JobRun, Node, State
from jobs.services import define_job
from tests.support.installation import ROOT, wait_for
from tests.support.jobs import NEVER, OVER
from tests.support.postgres import url_of_run

_KEPT = ("PATH", "LANG", "TMPDIR")


class Runners:
    """Processes of `manage.py runner` that share a folder of scripts; `here` is where these may leave files.

    Both folders are those of other runners, where there are others.
    """

    def __init__(self, folder: pathlib.Path, others: Runners | None = None) -> None:
        self.folder = folder
        self.here = others.here if others else folder / "here"
        self.scripts = others.scripts if others else folder / "scripts"
        for each in (self.folder, self.here, self.scripts):
            each.mkdir(parents=True, exist_ok=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Runners:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, labels: str, *, parallel: int = 2) -> subprocess.Popen[bytes]:
        state = self.folder / f"state-{len(self.processes)}"
        state.mkdir()
        name = str(connection.settings_dict["NAME"])
        environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "HOME": str(state),
            "HERE": str(self.here),
            "LOBWIFE_STATE_DIR": str(state),
            "LOBWIFE_SCRIPTS_DIR": str(self.scripts),
            "LOBWIFE_SECRET_KEY": os.environ["LOBWIFE_SECRET_KEY"],
            "LOBWIFE_DATABASE_URL": url_of_run(name),
            "LOBWIFE_LOG_LEVEL": os.environ.get("LOBWIFE_LOG_LEVEL", "INFO"),
        }
        command = [sys.executable, str(ROOT / "manage.py"), "runner", "--labels", labels, "--parallel", str(parallel)]
        with (self.folder / "runners.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def wait_until_up(self) -> None:
        for process in self.processes:
            wait_for(lambda process=process: node_of(process) or process.poll() is not None, 180, "a runner beats")
            assert process.poll() is None, self.log()

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self) -> str:
        return (self.folder / "runners.log").read_text(errors="replace")

    def job(self, name: str, script: str, **fields: Any) -> Job:
        """Define a job, and write its script: lines of a shell."""
        (self.scripts / f"{name}.sh").write_text(script)
        return define_job(fields={"name": name, "script": f"{name}.sh", "schedule": NEVER, **fields}, actor="a test")


def node_of(process: subprocess.Popen[bytes]) -> Node | None:
    return Node.objects.alive().filter(name__endswith=f"/{process.pid}").first()


def pid_of(run: JobRun) -> int:
    """The runner that executed a run."""
    return int(run.node.rpartition("/")[2])


def ended(run: JobRun, seconds: float = 60) -> JobRun:
    """The run, once it is over."""
    return wait_for(lambda: JobRun.objects.filter(pk=run.pk, state__in=OVER).first(), seconds, f"run {run.pk} is over")


def running(run: JobRun, seconds: float = 60) -> JobRun:
    return wait_for(
        lambda: JobRun.objects.filter(pk=run.pk, state=State.RUNNING).first(), seconds, f"run {run.pk} is running"
    )
