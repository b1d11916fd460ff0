"""`manage.py runs [JOB] [--state S] [--since T] [--until T] [--limit N]`: what ran, newest first."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from core.console import OperatorCommand, add_json
from core.timestamps import utc_now
from jobs import queries, services, time_range
from jobs.execution import queue_reasons
from jobs.models import State

COLUMNS = ("run", "job", "state", "trigger", "by", "started", "duration", "exit", "node", "note")


class Command(OperatorCommand):
    help = "Runs, newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", nargs="?", help="of this job alone")
        parser.add_argument("--state", choices=State.values, help="in this state alone")
        moment = "a time such as 2026-02-16T22:00 (UTC), or an age such as 24h or 7d"
        parser.add_argument("--since", help=f"asked for at or after {moment}")
        parser.add_argument("--until", help=f"asked for before {moment}")
        parser.add_argument("--limit", type=int, default=20, help="how many (20, at most 500)")
        add_json(parser)

    def act(self, **options: Any) -> int:
        if options["job"]:
            services.get_job(options["job"])
        limit = options["limit"]
        if limit < 1:
            raise CommandError("--limit says how many runs to list: 1 or more.", returncode=2)
        now = utc_now()
        since, until = (time_range.moment(options[name], name, now) for name in ("since", "until"))
        rows = queries.run_list(
            job=options["job"], state=options["state"], before_id=None, limit=limit, since=since, until=until
        )
        if options["json"]:
            self.show_json(rows)
        else:
            self.show_table(COLUMNS, [row(run) for run in rows])
        return 0


def row(run: dict[str, Any]) -> list[object]:
    """Return a run as the tables show it."""
    duration = None if run["duration"] is None else f"{run['duration']:.1f} s"
    started = (run["started_at"] or "")[:19]
    ended = f"signal {run['signal']}" if run["signal"] else run["exit_code"]
    by = run["requested_by"]
    note = queue_reasons.with_note(run["note"], run["waits_for"])
    return [run["id"], run["job"], run["state"], run["trigger"], by, started, duration, ended, run["node"], note]
