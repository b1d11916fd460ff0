"""Look after tasks: time-outs, lost lobsters, a queue that stands still."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from .fleet_tasks import Tasks
from .investigations import Investigations
from .orphans import check_orphans
from .pulls import Pulls
from .report import Report
from .rest import Rest, RestError
from .timeouts import check_queue, check_timeouts

NAME = "lobmob-task-manager"
_QUEUE_MINUTES = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        *("--queue-minutes", "-q"),
        type=float,
        default=os.environ.get("LOBMOB_QUEUE_MINUTES") or _QUEUE_MINUTES,
        help="how long a task may wait in the queue (LOBMOB_QUEUE_MINUTES, else 60)",
    )
    options = parser.parse_args(arguments)
    report = Report(dry_run=options.dry_run)
    try:
        rest = Rest.from_environment()
        tasks = Tasks(rest, report)
        active, queued = rest.tasks(status="active"), rest.tasks(status="queued")
        pulls, investigations = Pulls(report), Investigations(tasks)
        check_timeouts(tasks, active, pulls)
        check_queue(tasks, queued, options.queue_minutes)
        check_orphans(tasks, active, pulls, investigations)
        investigations.finish()
    except RestError as error:
        report.fail(str(error))
    return report.last_line(NAME)
