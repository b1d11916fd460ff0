"""The jobs that are run meanwhile, and what their scripts print."""

from __future__ import annotations

import pathlib
from typing import Any

_LINES = {"short": 5, "long": 40, "narrow": 3, "again": 5, "minutely": 1}
_PAUSES = {"short": "0.05", "long": "0.1", "narrow": "0.2", "again": "0.3", "minutely": "0"}
JOBS: dict[str, dict[str, Any]] = {
    "short": {"runs_on": "work", "concurrency": "allow", "max_parallel": 500},
    "long": {"runs_on": "work", "concurrency": "allow", "max_parallel": 500},
    "narrow": {"runs_on": "narrow", "concurrency": "allow", "max_parallel": 2},
    "again": {"retries": 3, "retry_delay_seconds": 1},
    "minutely": {"schedule": "* * * * *", "misfire": "all", "misfire_max": 100, "concurrency": "queue"},
}
_SCRIPT = """echo "begin $LOBWIFE_RUN_ID" >> {marks}
for line in $(seq {lines}); do echo "line $line of $LOBWIFE_RUN_ID"; sleep {pause}; done
echo "end $LOBWIFE_RUN_ID" >> {marks}
"""


def write_scripts(folder: pathlib.Path, marks: pathlib.Path) -> None:
    for name, lines in _LINES.items():
        text = _SCRIPT.format(marks=marks, lines=lines, pause=_PAUSES[name])
        (folder / f"kills-{name}.sh").write_text(text)


def definitions(webhook: str) -> dict[str, Any]:
    """Return jobs and webhook to import."""
    jobs = {name: {"script": f"kills-{name}.sh", "schedule": "0 0 29 2 *", **fields} for name, fields in JOBS.items()}
    return {"jobs": jobs, "webhooks": {"kills": {"url": webhook, "types": ["task.created", "run.ended"]}}}


def output_of(job: str, run: int) -> bytes:
    """Return all that the script of a run prints."""
    return b"".join(b"line %d of %d\n" % (line, run) for line in range(1, _LINES.get(job, 0) + 1))
