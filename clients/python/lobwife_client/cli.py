"""lobwife-agent: commands for an agent within its task, and what starts agents.

An agent's commands are about the task of TASK_ID, at LOBWIFE_URL, with the key LOBWIFE_API_KEY of its lease.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from . import mcp, runner
from .client import Client
from .errors import LobwifeError

_APPROVAL = ("Approve", "Reject")
_OUTCOMES = ("completed", "failed", "blocked", "queued")
_KINDS = ("pull", "branch", "commit", "issue", "other")
_KIND_OF = {"pull": "pull", "merge_requests": "pull", "issues": "issue", "commit": "commit", "tree": "branch"}
_LONGEST_WAIT = 60.0
_REFUSED, _UNANSWERED = 1, 3  # exit codes


class Usage(Exception):
    """The command can't be carried out as it was called; the sentence says what is missing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.function(chosen))
    except (LobwifeError, Usage) as error:
        print(f"lobwife-agent: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # else Python complains of its last flush
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lobwife-agent", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("task", help="show the task and what is to be done")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(function=_task)

    command = commands.add_parser("note", help="say what was done or learned: a line of the task's history")
    command.add_argument("text", help="the line; - reads it from the input")
    command.add_argument("--type", default="progress", help="of the event (progress)")
    command.set_defaults(function=_note)

    command = commands.add_parser("link", help="add a link to the task, such as its pull request")
    command.add_argument("url")
    command.add_argument("--kind", choices=_KINDS, help="what it is, if the address doesn't say it")
    command.set_defaults(function=_link)

    command = commands.add_parser(
        "ask",
        help="ask people, wait for the answer and print it",
        description="Ask people, wait for the answer and print it. Exit code 3: there is no answer, or none in time."
        " With --approve, 1: it was not approved.",
    )
    command.add_argument("text", help="the question; - reads it from the input")
    command.add_argument("--choice", action="append", default=[], help="an answer to pick from; once for each")
    command.add_argument("--approve", action="store_true", help="the choices are Approve and Reject")
    command.add_argument("--wait", type=float, metavar="SECONDS", help="at the longest (until there is an answer)")
    command.set_defaults(function=_ask)

    command = commands.add_parser("done", help="say what came out, and hand the task back")
    command.add_argument("summary", nargs="?", help="the result, for people; - reads it from the input")
    command.add_argument("--data", metavar="JSON", help="the result, for programs: a JSON object, or @FILE")
    command.add_argument("--outcome", choices=_OUTCOMES, default="completed", help="of the task (completed)")
    command.add_argument("--reason", help="for an outcome other than completed")
    command.set_defaults(function=_done)

    runner.arguments(commands)

    command = commands.add_parser("mcp", help="speak MCP on stdin and stdout, for a model's tools")
    command.set_defaults(function=lambda _: mcp.serve(Client()))
    return parser


def _task(chosen: argparse.Namespace) -> int:
    client, number = Client(), _own_task()
    task = {**client.task(number), "body": client.note(number)["text"]}
    if chosen.json:
        print(json.dumps(task))
        return 0
    print(f"{task['task_id']}: {task['name']}\n")
    for name in ("type", "status", "priority", "repos", "parent", "depends_on", "estimate_minutes"):
        value = task.get(name)
        if value not in (None, [], ""):
            print(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    for link in task.get("links") or ():
        print(f"{link['kind']}: {link['url']}")
    print(f"\n{task['body'].strip()}")
    return 0


def _note(chosen: argparse.Namespace) -> int:
    Client().add_event(_own_task(), chosen.type, _text(chosen.text))
    return 0


def _link(chosen: argparse.Namespace) -> int:
    Client().add_link(_own_task(), chosen.url, chosen.kind or _kind_of(chosen.url))
    return 0


def _ask(chosen: argparse.Namespace) -> int:
    client = Client()
    choices = _APPROVAL if chosen.approve else chosen.choice
    question = client.ask(_own_task(), _text(chosen.text), choices)
    until = None if chosen.wait is None else time.monotonic() + chosen.wait
    while question["state"] == "open":
        left = _LONGEST_WAIT if until is None else min(until - time.monotonic(), _LONGEST_WAIT)
        if left <= 0:
            print(f"question {question['id']} is not answered yet", file=sys.stderr)
            return _UNANSWERED
        question = client.question(question["id"], wait_seconds=max(1, left))
    if question["answer"] is None:
        print(f"question {question['id']} was withdrawn", file=sys.stderr)
        return _UNANSWERED
    print(question["answer"])
    return _REFUSED if chosen.approve and question["answer"] != _APPROVAL[0] else 0


def _done(chosen: argparse.Namespace) -> int:
    client, number = Client(), _own_task()
    summary, data = _text(chosen.summary), _data(chosen.data)
    if summary or data is not None:
        client.set_result(number, summary or chosen.outcome, data)
    fence = os.environ.get("LOBWIFE_FENCE", "").strip()
    if fence:
        if not re.fullmatch(r"\d{1,18}", fence, re.ASCII):
            raise Usage("LOBWIFE_FENCE is not a number")
        client.release(number, int(fence), chosen.outcome, chosen.reason or None)
    elif chosen.outcome == "queued":
        raise Usage("a task is queued again by whoever holds its lease: LOBWIFE_FENCE is not set")
    else:
        client.update_task(number, status=chosen.outcome)
    return 0


def _own_task() -> str:
    number = os.environ.get("TASK_ID", "").strip()
    if not number:
        raise Usage("TASK_ID is not set: this is for use within a task")
    return number


def _text(text: str | None) -> str:
    return sys.stdin.read().strip() if text == "-" else (text or "").strip()


def _data(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        if text.startswith("@"):
            with open(text[1:]) as file:
                text = file.read()
        data = json.loads(text)
    except OSError as error:
        raise Usage(f"--data: {error.filename}: {error.strerror}") from None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Usage("--data must be a JSON object, or @ and the name of a file with one")
    return data


def _kind_of(url: str) -> str:
    """Return what kind of link an address of GitHub or the like is."""
    parts = urlsplit(url).path.split("/")
    return next((_KIND_OF[part] for part in parts[3:] if part in _KIND_OF), "other")


if __name__ == "__main__":
    sys.exit(main())
