"""Commands in a process of their own, forked from one that has imported Django and its like already.

Starting Python and importing the libraries is two thirds of what most commands cost. Each child reads its environment,
its settings and the project's modules anew.
"""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.context
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

# What Python reads before it runs anything: with another value it has to be started.
READ_AT_START = ("PYTHON", "LANG", "LC_", "LD_")
PRELOADED = [
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
    if any(os.environ.get(name) != value for name, value in environment.items() if name.startswith(READ_AT_START)):
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
def _fork_server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _become(
    arguments: tuple[str, ...], environment: dict[str, str], folder: pathlib.Path, out: pathlib.Path, err: pathlib.Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    for path, descriptor in ((out, 1), (err, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    script, *rest = arguments
    if script == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [script, *rest]
        sys.path.insert(0, str(pathlib.Path(script).parent))
        runpy.run_path(script, run_name="__main__")
