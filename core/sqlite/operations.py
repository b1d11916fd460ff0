"""Migration operations that adopt what an older service left, half-made or whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.migrations.operations.base import Operation


class AdoptTable(Operation):
    """Make a table where it is missing; where it is there, add only the columns and indexes that it lacks.

    `columns` are the ones that a table of an older version may lack, name to definition. Never drops or changes
    anything, so it can run again on what an interrupted run left.
    """

    reversible = False
    reduces_to_sql = True

    def __init__(
        self, table: str, create: str, columns: Mapping[str, str] | None = None, indexes: Sequence[str] = ()
    ) -> None:
        self.table = table
        self.create = create
        self.columns = dict(columns or {})
        self.indexes = list(indexes)

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The models' state is told by the CreateModel operations beside this one."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
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
