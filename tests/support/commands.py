"""Processes of an installation, forked from one that has imported Django and its like already.

Starting Python and importing the libraries is two thirds of what most commands cost. Each child reads its environment,
its settings and the project's modules anew.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
from multiprocessing import forkserver, popen_forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.popen_forkserver import Popen as ForkServerPopen
from types import SimpleNamespace
from typing import Any
from unittest import mock

# What Python reads before it runs anything: with another value it has to be started.
READ_AT_START = ("PYTHON", "LANG", "LC_", "LD_")
LIBRARIES = [
    "lobwife",  # first: it puts pysqlite3 in sqlite3's place, and imports nothing else of the project
    "annotated_types",
    "apscheduler.schedulers.background",
    "cron_descriptor",
    "cronsim",
    "cryptography.hazmat.primitives.serialization",
    "cryptography.x509",
    "django.core.management",
    "django.db.backends.sqlite3.base",
    "django.test.testcases",
    "django_stubs_ext",
    "httpcore2",
    "httpx2",
    "jwt",
    "pydantic.json_schema",
    "pydantic.types",
    "rich.console",
    "rich.table",
    "tests.support.commands",
    "yaml",
]
# gunicorn's worker has gevent patch what was imported before: that must keep no lock and no local of a thread.
LIBRARIES_OF_WEB = [
    "lobwife",
    "annotated_types",
    "cryptography.hazmat.primitives.serialization",
    "cryptography.x509",
    "email.headerregistry",
    "gevent.monkey",
    "gunicorn.app.wsgiapp",
    "gunicorn.workers.ggevent",
    "html.parser",
    "pydantic.json_schema",
    "pydantic.types",
    "tests.support.commands",
    "yaml",
]


class WebProcess(ForkServerProcess):
    """Is forked from a server of its own, which has imported other libraries."""

    @staticmethod
    def _Popen(process: Any) -> ForkServerPopen:  # noqa: N802 - multiprocessing's name
        server = SimpleNamespace(
            connect_to_new_process=_fork_server_of_web().connect_to_new_process, read_signed=forkserver.read_signed
        )
        with mock.patch.object(popen_forkserver, "forkserver", server):
            return ForkServerPopen(process)


class Forked:
    """A process that goes on; it has what the tests use of subprocess.Popen."""

    def __init__(self, *arguments: str, environment: dict[str, str], folder: pathlib.Path, log: pathlib.Path) -> None:
        self.args = arguments
        process = WebProcess if "gunicorn" in arguments else _fork_server().Process
        self._process = process(target=_become, args=(arguments, environment, folder, log, log, True), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raises TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = subprocess.Popen[bytes] | Forked


def can_fork(environment: dict[str, str]) -> bool:
    """Tell whether a process with this environment may be forked from one that has another."""
    here = {name: value for name, value in os.environ.items() if name.startswith(READ_AT_START)}
    there = {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
    return all(here.get(name) == value for name, value in there.items())


def start(
    *arguments: str, environment: dict[str, str], folder: pathlib.Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `python *arguments` to its end, without an input; raises TimeoutExpired."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def fork(
    *arguments: str, environment: dict[str, str], folder: pathlib.Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Do as `start()` does, with a script or `-c code` alone."""
    if not can_fork(environment):
        return start(*arguments, environment=environment, folder=folder, timeout=timeout)
    with tempfile.TemporaryDirectory(prefix="command-") as outputs:
        out, err = pathlib.Path(outputs, "out"), pathlib.Path(outputs, "err")
        process = _fork_server().Process(target=_become, args=(arguments, environment, folder, out, err))
        process.start()
        process.join(timeout)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        texts = [path.read_text() if path.exists() else "" for path in (out, err)]
        if code is None:
            raise subprocess.TimeoutExpired([sys.executable, *arguments], timeout, *texts)
        process.close()
        return subprocess.CompletedProcess([sys.executable, *arguments], code, *texts)


@functools.cache
def _fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


@functools.cache
def _fork_server_of_web() -> forkserver.ForkServer:
    server = forkserver.ForkServer()
    server.set_forkserver_preload(LIBRARIES_OF_WEB)
    return server


def _become(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    folder: pathlib.Path,
    out: pathlib.Path,
    err: pathlib.Path,
    leads_a_session: bool = False,
) -> None:
    if leads_a_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    for path, descriptor in ((out, 1), (err, 2)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    script, *rest = arguments
    if script == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    elif script == "-m":
        module, *rest = rest
        sys.argv = [module, *rest]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [script, *rest]
        sys.path.insert(0, str(pathlib.Path(script).parent))
        runpy.run_path(script, run_name="__main__")
