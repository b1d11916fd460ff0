"""The two commands and their arguments."""

from __future__ import annotations

import argparse
import json
import logging
import os
import pathlib
import shutil
import socket
import sys
import time
from typing import Any

from lobwife_client.client import Client

from . import environment, repositories
from .execution import Options
from .process import SUPERVISOR
from .runner import Runner
from .state import StateFile, read_runners, state_directory

_LONGEST_LEASE = 86_400
_RUN = """\
Claims tasks and runs the command for each, in a folder of its own, while the lease lives. In the command, {note} is the
file with what is to be done, {task} the task (T12), {dir} the folder it starts in: the clone of the task's repository,
or the folder with all of them. Exit code 0 completes the task, unless the command has released it itself (lobwife-agent
done). LOBWIFE_URL and LOBWIFE_API_KEY (a key of role runner) say where and as whom; the command gets a key for its own
task alone, and none of the machine's variables but harmless ones and those of --env.
"""


def arguments(subparsers: Any) -> None:
    """Add the two commands to `lobwife-agent`."""
    run = subparsers.add_parser(
        "run", help="claim tasks and run a command for each", description=_RUN, usage="%(prog)s [options] -- command …"
    )
    run.add_argument("--types", metavar="TYPE", nargs="+", default=[], help="only tasks of these types")
    run.add_argument("--repos", metavar="REPO", nargs="+", default=[], help="only tasks of these repositories")
    run.add_argument(
        "--lease",
        metavar="SECONDS",
        type=_seconds,
        default=900,
        help="hold a task so long without a sign of life (900)",
    )
    run.add_argument("--max", metavar="N", type=_positive, default=1, help="tasks at once (1)")
    run.add_argument("--once", action="store_true", help="end after one task")
    run.add_argument("--name", default=socket.gethostname(), help="what the runner calls itself (the host's name)")
    run.add_argument(
        "--workdir", metavar="DIR", type=pathlib.Path, help="where the folders of tasks are (LOBWIFE_AGENT_STATE)"
    )
    run.add_argument("--keep", metavar="N", type=int, default=10, help="folders of ended tasks that are kept (10)")
    run.add_argument("--env", metavar="NAME", action="append", default=[], help="pass this variable on, too")
    run.add_argument(
        "--on-failure", choices=("failed", "queued", "blocked"), default="failed", help="what the task becomes (failed)"
    )
    run.add_argument(
        "--attempts",
        metavar="N",
        type=_positive,
        default=3,
        help="fail a task that would be queued again after so many (3)",
    )
    run.add_argument("--grace", metavar="SECONDS", type=float, default=10.0, help="between SIGTERM and SIGKILL (10)")
    run.add_argument("--timeout", metavar="SECONDS", type=float, help="the longest that the command may take")
    run.add_argument(
        "--output-limit", metavar="BYTES", type=_positive, default=10 * 2**20, help="how much of it is kept (10 MiB)"
    )
    run.add_argument("command", nargs="+", help="what to run, after --")
    run.set_defaults(function=run_command)
    status = subparsers.add_parser("status", help="show the runners of this account and what they work on")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(function=status_command)


def run_command(parsed: argparse.Namespace) -> int:
    """Run until a signal; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if not sys.platform.startswith("linux"):
        return _refuse("run needs Linux, whose kernel ends what a command leaves behind")
    if not SUPERVISOR.exists():  # a folder that was copied out of the checkout
        return _refuse("run needs the whole package: pip install clients/python")
    program = shutil.which(parsed.command[0])
    if program is None:
        return _refuse(f"{parsed.command[0]}: there is no such command")
    refused = sorted(environment.NEVER_PASSED & set(parsed.env))
    if refused:
        return _refuse(f"--env {refused[0]}: that is the runner's own; the command gets a key for its task")
    try:
        base = repositories.check_base(os.environ.get("LOBWIFE_GIT_BASE", "").strip() or environment.GITHUB)
    except ValueError as error:
        return _refuse(str(error))
    client = Client()
    state = state_directory()
    options = Options(
        command=(os.path.abspath(program), *parsed.command[1:]),
        name=parsed.name,
        url=client.url,
        ca_file=client.ca_file and os.path.abspath(client.ca_file),
        workdir=(parsed.workdir or state / "work").absolute(),
        git_base=base,
        types=_words(parsed.types),
        repos=_words(parsed.repos),
        lease_seconds=parsed.lease,
        most=parsed.max,
        once=parsed.once,
        pass_on=tuple(parsed.env),
        on_failure=parsed.on_failure,
        attempts=parsed.attempts,
        grace=parsed.grace,
        timeout=parsed.timeout,
        output_limit=parsed.output_limit,
        keep=max(0, parsed.keep),
    )
    about = {"name": options.name, "pid": os.getpid(), "url": options.url, "since": time.time()}
    about |= {"types": options.types, "repos": options.repos, "max": options.most}
    try:
        file = StateFile(state, about)
    except OSError as error:
        return _refuse(f"LOBWIFE_AGENT_STATE: {state} can't be written: {error.strerror or error}")
    try:
        return Runner(client, options, file).run()
    finally:
        file.close()


def status_command(parsed: argparse.Namespace) -> int:
    """Print what runs."""
    runners = read_runners(state_directory())
    if parsed.json:
        print(json.dumps({"runners": runners}, indent=2))
    elif not runners:
        print("No runner runs.")
    else:
        rows: list[tuple[str, ...]] = [("RUNNER", "PID", "TASK", "ATTEMPT", "FOR", "DOES", "NAME")]
        rows += [row for runner in runners for row in _rows(runner)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _rows(runner: dict[str, Any]) -> list[tuple[str, ...]]:
    first = (str(runner["name"]), str(runner["pid"]))
    if not runner["alive"]:
        return [(*first, "-", "-", _ago(runner["since"]), "was killed", "")]
    if not runner["tasks"]:
        return [(*first, "-", "-", _ago(runner["since"]), "waits", "")]
    return [
        (*first, task["task_id"], str(task["attempt"]), _ago(task["since"]), task["phase"], _one_line(task["name"]))
        for task in runner["tasks"]
    ]


def _ago(moment: float) -> str:
    seconds = max(0, round(time.time() - moment))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:60]


def _words(arguments: list[str]) -> tuple[str, ...]:
    """Return what was listed with spaces, commas, or both."""
    return tuple(word for argument in arguments for word in argument.split(",") if word)


def _refuse(sentence: str) -> int:
    print(f"lobwife-agent: {sentence}", file=sys.stderr)
    return 2


def _seconds(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _LONGEST_LEASE:
        raise argparse.ArgumentTypeError(f"must be 1 to {_LONGEST_LEASE} seconds")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
