"""Processes of an installation, forked from one that has imported Django and its like already.

Starting Python and importing everything is most of what a command costs. Each child reads its environment and its
settings anew.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import multiprocessing
import os
import pathlib
import runpy
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, popen_forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.popen_forkserver import Popen as ForkServerPopen
from types import SimpleNamespace
from typing import Any
from unittest import mock

# What Python reads before it runs anything: with another value it has to be started.
READ_AT_START = ("PYTHON", "LANG", "LC_", "LD_")
PRELOADED = ["tests.support.preloaded", "django.test.testcases", "tests.support.commands"]
PRELOADED_FOR_WEB = [
    "tests.support.patched",
    "tests.support.preloaded",
    "gunicorn.app.wsgiapp",
    "lobwife.web.gevent_worker",
    "tests.support.commands",
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


def can_fork(environment: dict[str, str], *arguments: str) -> bool:
    """Tell whether a process with this environment may be forked from one that has another."""
    here = {name: value for name, value in os.environ.items() if name.startswith(READ_AT_START)}
    there = {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
    if _customization(environment) is not None and "gunicorn" not in arguments:  # web has no thread once it is patched
        del there["PYTHONPATH"]
    return all(here.get(name) == value for name, value in there.items())


def _customization(environment: dict[str, str]) -> pathlib.Path | None:
    """Return what a Python that is started reads of a PYTHONPATH which is for that alone."""
    path = pathlib.Path(environment.get("PYTHONPATH", "/dev/null")) / "sitecustomize.py"
    return path if path.is_file() else None


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
    """Do as `start()` does, with a script, a module of the fleet's scripts or `-c code` alone."""
    if not can_fork(environment, *arguments):
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


# A program for shells that has another process do the work, with its own input and outputs.
_PROGRAM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({path!r})
    asked.sendall(json.dumps([os.getpid(), os.getcwd(), dict(os.environ), sys.argv[1:]]).encode() + b"\\n")
    sys.exit(int(asked.makefile().read()))
"""


@contextlib.contextmanager
def program(path: pathlib.Path, *arguments: str) -> Iterator[None]:
    """Make a program for shells that forks `python *arguments` with what it is called with."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            pid, folder, environment, rest = json.loads(self.rfile.readline())
            input, out, err = (pathlib.Path(f"/proc/{pid}/fd/{number}") for number in range(3))
            process = _fork_server().Process(
                target=_become, args=((*arguments, *rest), environment, pathlib.Path(folder), out, err, False, input)
            )
            process.start()
            process.join()
            self.wfile.write(str(process.exitcode).encode())

    socket_path = path.with_suffix(".socket")
    with socketserver.ThreadingUnixStreamServer(str(socket_path), Handler) as server:
        path.write_text(_PROGRAM.format(python=sys.executable, path=str(socket_path)))
        path.chmod(0o755)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}).start()
        try:
            yield
        finally:
            server.shutdown()


@functools.cache
def _fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@functools.cache
def _fork_server_of_web() -> forkserver.ForkServer:
    server = forkserver.ForkServer()
    server.set_forkserver_preload(PRELOADED_FOR_WEB)
    return server


def _become(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    folder: pathlib.Path,
    out: pathlib.Path,
    err: pathlib.Path,
    leads_a_session: bool = False,
    input: pathlib.Path | None = None,
) -> None:
    gc.freeze()  # what is shared with the fork server would be copied to be looked at
    if leads_a_session:
        os.setsid()
    if "gevent" in sys.modules:
        sys.modules["gevent"].reinit()
        sys.modules["gevent.monkey"].patch_all()  # the rest, before settings are read: it looks into all objects
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    for path, descriptor in ((out, 1), (err, 2)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    if input is not None:
        with input.open("rb") as file:
            os.dup2(file.fileno(), 0)
            sys.stdin = open(0, closefd=False)  # noqa: SIM115 - stays open
    customization = _customization(environment)
    if customization is not None:
        runpy.run_path(str(customization))
    preloaded = sys.modules.get("tests.support.preloaded")
    if preloaded is not None:
        preloaded.forget_settings()
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
