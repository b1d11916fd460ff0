"""Schema changes on files that others wrote: tables are adopted, ids never given out again, old orphans left alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.sqlite3 import schema
from django.db.migrations.operations.base import Operation
from django.db.utils import IntegrityError


class _Deferred(list[Any]):
    """Statements for the end of a migration, which says that there are none.

    Django records a migration with statements left after its transaction, so that a kill between the two leaves tables
    that the next start would make again. Told that none are left it records within, and they still run before COMMIT.
    """

    def __bool__(self) -> bool:
        return False


class DatabaseSchemaEditor(schema.DatabaseSchemaEditor):
    """SQLite's schema editor, with three promises of its own.

    A migration and its record are one transaction. A rebuilt table keeps its row in `sqlite_sequence`, so that no id is
    used again. And a change is refused for rows that it left without the row they refer to, not for those that were so
    before: a shell deletes without checking.
    """

    @property
    def deferred_sql(self) -> list[Any]:
        return self._deferred

    @deferred_sql.setter
    def deferred_sql(self, statements: list[Any]) -> None:
        self._deferred = _Deferred(statements)

    def __enter__(self) -> "DatabaseSchemaEditor":
        self._orphans_before = self._orphans()
        super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        made = set() if exc_type else self._orphans() - self._orphans_before
        if made:
            table, rowid, parent = min(made, key=str)
            exc_value = IntegrityError(f"row {rowid} of {table} would refer to a row of {parent} that is not there")
            exc_type = type(exc_value)
        # Not the parent's, which checks the whole file.
        BaseDatabaseSchemaEditor.__exit__(self, exc_type, exc_value, traceback)
        self.connection.enable_constraint_checking()
        if made:
            raise exc_value

    def _remake_table(self, model: Any, *args: Any, **kwargs: Any) -> None:
        table = model._meta.db_table
        highest = self._sequence(table)
        super()._remake_table(model, *args, **kwargs)  # type: ignore[misc]
        if highest is not None and self._sequence(table) is None:
            self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, highest])
        elif highest is not None:
            self.execute("UPDATE sqlite_sequence SET seq = max(seq, %s) WHERE name = %s", [highest, table])

    def _sequence(self, table: str) -> int | None:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
            if cursor.fetchone() is None:
                return None
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
            row = cursor.fetchone()
            return row[0] if row else None

    def _orphans(self) -> set[tuple[str, int, str]]:
        with self.connection.cursor() as cursor:
            cursor.execute("PRAGMA foreign_key_check")
            return {(table, rowid, parent) for table, rowid, parent, _ in cursor.fetchall()}


class AdoptTable(Operation):
    """Make a table where it is missing; where it is there, add only the columns and indexes that it lacks.

    `columns` are the ones that a table of an older version may lack, name to definition. Never drops or changes
    anything, so it can run again on what an interrupted run left.

    Other databases never had an older service: `elsewhere` makes there what is no model's.
    """

    reversible = False
    reduces_to_sql = True

    def __init__(
        self,
        table: str,
        create: str,
        columns: Mapping[str, str] | None = None,
        indexes: Sequence[str] = (),
        *,
        elsewhere: str = "",
    ) -> None:
        self.table = table
        self.create = create
        self.columns = dict(columns or {})
        self.indexes = list(indexes)
        self.elsewhere = elsewhere

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The models' state is told by the CreateModel operations beside this one."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "sqlite":
            if self.elsewhere:  # else core.database.schema.AdoptOrCreate makes the model's table
                schema_editor.execute(self.elsewhere)
            return
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(f'PRAGMA table_info("{self.table}")')
            present = {row[1] for row in cursor.fetchall()}
        if not present:
            schema_editor.execute(self.create)
        for name, definition in self.columns.items():
            if present and name not in present:
                schema_editor.execute(f'ALTER TABLE "{self.table}" ADD COLUMN "{name}" {definition}')
        for index in self.indexes:
            schema_editor.execute(index)

    def describe(self) -> str:
        return f"Adopt or make the table {self.table}"
