"""`manage.py jobs [NAME]`, `jobs export [FILE]`, `jobs import FILE [--dry-run]`."""

from __future__ import annotations

import pathlib
from typing import Any

from django.core.management.base import CommandError, CommandParser

from core.console import OperatorCommand, add_json, operator, read_text
from jobs import definitions, queries, services
from jobs.management.commands import runs as runs_command
from jobs.models import Job
from jobs.scheduling import cron

_ACTIONS = ("export", "import")


class Command(OperatorCommand):
    help = (
        "All jobs; with a NAME that job's definition, next ten firings and last runs. `export [FILE]` writes all "
        "definitions as YAML, `import FILE` makes and changes jobs from such a file, all or none."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", nargs="?", metavar="NAME|export|import")
        parser.add_argument("file", nargs="?", help="for export and import; - is stdin or stdout")
        parser.add_argument("--dry-run", action="store_true", help="import: show what would change, and change nothing")
        parser.add_argument("--secrets", action="store_true", help="export: with the URLs of alerts and watchdogs")
        add_json(parser)
        parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign] # the file may follow an option

    def act(self, **options: Any) -> int:
        what, file = options["what"], options["file"]
        if file and what not in _ACTIONS:
            raise CommandError("A file goes with export or import.", returncode=2)
        if what == "export":
            return self._export(file or "-", secrets=options["secrets"])
        if what == "import":
            if not file:
                raise CommandError("import needs a file, or - for stdin.", returncode=2)
            return self._import(file, dry_run=options["dry_run"])
        return self._show_one(what, options["json"]) if what else self._show_all(options["json"])

    def _show_all(self, as_json: bool) -> int:
        if as_json:
            self.show_json(queries.job_list())
            return 0
        hold = queries.hold()
        jobs: Any = queries.with_summary(Job.objects.order_by("id"))
        rows = [
            [
                job.name,
                job.active_state or ("enabled" if job.is_enabled else "disabled"),
                cron.describe_safely(job.schedule),
                job.last_status,
                (job.last_run or "")[:19],
                (hold or (queries.next_run(job) or "")[:19]) if job.is_enabled else "",
                job.description,
            ]
            for job in jobs
        ]
        self.show_table(("job", "state", "schedule", "last", "last run", "next run", "description"), rows)
        if services.pause():
            self.say("Starts are paused; `manage.py resume` ends that.")
        if not queries.daemon_is_alive():
            self.say("The daemon is down: nothing starts until it is back (make run, manage.py daemon).")
        return 0

    def _show_one(self, name: str, as_json: bool) -> int:
        job = services.get_job(name)
        about: dict[str, Any] = {
            "name": name,
            "schedule_in_words": cron.describe_safely(job.schedule),
            "definition": definitions.for_people(job),
            "next": queries.next_firings(job, 10),
            "runs": queries.run_list(job=name, state=None, before_id=None, limit=10),
        }
        if as_json:
            self.show_json(about)
            return 0
        self.stdout.write(f"{name}: {about['schedule_in_words']} ({job.timezone})\n")
        self.show_table(("field", "value"), list(about["definition"].items()))
        self.stdout.write("\nNext firings (UTC)")
        for moment in about["next"]:
            self.stdout.write(f"  {moment[:19]}")
        self.stdout.write("\nLast runs")
        self.show_table(runs_command.COLUMNS, [runs_command.row(run) for run in about["runs"]])
        return 0

    def _export(self, file: str, *, secrets: bool) -> int:
        text = definitions.exported(secrets=secrets)
        if file == "-":
            self.stdout.write(text, ending="")
            return 0
        try:
            path = pathlib.Path(file)
            path.touch(mode=0o600)  # environments of jobs can hold secrets
            if secrets and path.is_file():
                path.chmod(0o600)  # one that was there already
            path.write_text(text)
        except OSError as error:
            raise CommandError(f"{file} can't be written: {error.strerror}.") from None
        return 0

    def _import(self, file: str, *, dry_run: bool) -> int:
        plan = definitions.plan_import(read_text(file))
        if dry_run:
            self.stdout.write(plan.diff() or "Nothing would change.", ending="" if plan.diff() else "\n")
            return 0
        definitions.carry_out(plan, actor=operator())
        self.stdout.write(f"{len(plan.made)} made, {len(plan.changed)} changed, {plan.same} as they were.")
        return 0
