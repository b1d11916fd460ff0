"""What tests of jobs share: jobs defined through the services, runs looked at over REST and in the file."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from tests.support.installation import ROOT, Installation, wait_for

sys.path.insert(0, str(ROOT / "jobs" / "supervisor"))

from capture import Capture  # type: ignore[import-not-found]  # noqa: E402

_DEFINE = """
import json, sys
from jobs.services import define_job
for fields in json.load(sys.stdin):
    define_job(fields=fields, actor="a test")
"""
NEVER = "0 0 29 2 *"
OVER = ("success", "failed", "timeout", "error", "aborted", "lost", "skipped")


def define(installation: Installation, *jobs: dict[str, Any]) -> None:
    """Make jobs through the service, as any door would; a schedule that hardly ever fires is the default."""
    fields = [{"schedule": NEVER, **job} for job in jobs]
    installation.manage(
        "shell", "--no-imports", "-c", _DEFINE.replace("json.load(sys.stdin)", f"json.loads({json.dumps(fields)!r})")
    )


def define_scripts(installation: Installation, scripts: Mapping[str, str]) -> None:
    """Write scripts, texts by file name, and make a job of each, called as its file is without the ending."""
    for name, text in scripts.items():
        installation.script(name, text)
    define(installation, *({"name": name.partition(".")[0], "script": name} for name in scripts))


def trigger(installation: Installation, name: str) -> int:
    """Trigger over REST; the id of the run."""
    answer = installation.post(f"/api/v1/jobs/{name}/runs")
    assert answer.status == 201, answer.body
    return answer.json["id"]


def run_of(installation: Installation, run_id: int) -> dict[str, Any]:
    return installation.get(f"/api/v1/runs/{run_id}").json


def ended(installation: Installation, run_id: int, seconds: float = 15) -> dict[str, Any]:
    """The run, once it is over."""

    def over() -> dict[str, Any] | None:
        run = run_of(installation, run_id)
        return run if run["state"] in OVER else None

    return wait_for(over, seconds, f"run {run_id} is over")


def run_now(installation: Installation, name: str) -> dict[str, Any]:
    """Trigger, and wait for the end."""
    return ended(installation, trigger(installation, name))


def output_of(installation: Installation, run_id: int) -> str:
    return installation.get(f"/api/v1/runs/{run_id}/output").json["text"]


def rows(installation: Installation, sql: str, *values: Any) -> list[Any]:
    with installation.database() as database:
        return database.execute(sql, values).fetchall()


def execute(installation: Installation, sql: str, *values: Any) -> None:
    """As an operator does it by hand, in the database's shell."""
    with installation.database() as database:
        database.execute(sql, values)


def is_running(pid: int) -> bool:
    """Whether the process is there and not only its remains."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def processes_of(installation: Installation) -> list[int]:
    """Every living process that a run of this installation left: scripts by their environment, parents by name."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and is_running(int(entry)):
            try:
                environment = pathlib.Path("/proc", entry, "environ").read_bytes()
                command = pathlib.Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue
            marked = f"LOBWIFE_RUN_OUTPUT={installation.state}/".encode() in environment
            parent = (
                b"jobs/supervisor" in command and f"LOBWIFE_STATE_DIR={installation.state}\0".encode() in environment
            )
            if marked or parent:
                found.append(int(entry))
    return found


PYTHON = sys.executable


def capture(path: pathlib.Path, text: str, *, limit: int = 10 * 2**20) -> None:
    """Store output as a run's supervisor does, in pieces."""
    data, captured = text.encode(), Capture(str(path), limit, [])
    for at in range(0, len(data), 777):
        captured.write(data[at : at + 777])
    captured.close()
