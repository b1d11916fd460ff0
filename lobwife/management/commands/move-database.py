"""`manage.py move-database --to URL`: go on with another database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from core.console import OperatorCommand, progress
from lobwife.database_move import SQLITE, Observer, move


class Command(OperatorCommand):
    help = (
        "Copy the whole database to an empty PostgreSQL, or back to a new SQLite file. Meanwhile, and afterwards, the"
        " old one takes no writes. A move that was interrupted goes on when it is run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        where = f"postgresql://USER@HOST:PORT/DATABASE (the password in PGPASSWORD or ~/.pgpass), or {SQLITE}"
        parser.add_argument("--to", required=True, metavar="URL", help=where)

    def act(self, **options: Any) -> int:
        to: str = options["to"]
        with progress() as bar:
            line = bar.add_task("", total=None)

            def on_table(name: str, rows: int) -> None:
                bar.reset(line, description=name, total=rows)

            tables = move(to, Observer(on_table, lambda count: bar.advance(line, count), self.say))
        for table in tables:
            if table.rows:
                self.stdout.write(f"{table.name:<40}{table.rows:>12,}  {table.digest}")
        self.stdout.write(f"Moved: {sum(table.rows for table in tables):,} rows of {len(tables)} tables, compared.")
        self.stdout.write(_NEXT_SQLITE if to == SQLITE else _NEXT)
        return 0


_NEXT = (
    "Start lobwife with LOBWIFE_DATABASE_URL set to it, and LOBWIFE_SECRET_KEY to what secret-key in the state"
    " directory says (docs/postgres.md)."
)
_NEXT_SQLITE = "Start lobwife without LOBWIFE_DATABASE_URL."
