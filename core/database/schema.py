"""Tables that installations may have already: adopted where they are a file's, else made as the models say."""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations import SeparateDatabaseAndState


class AdoptOrCreate(SeparateDatabaseAndState):
    """On SQLite the database operations, which adopt the tables of an older service's file.

    Other databases never had one: there the state operations make the tables. What the models have none of, the rest of
    the database operations do on both.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "sqlite":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        for operation in self.state_operations:
            to_state = from_state.clone()
            operation.state_forwards(app_label, to_state)
            operation.database_forwards(app_label, schema_editor, from_state, to_state)
            from_state = to_state
        for operation in self.database_operations:
            operation.database_forwards(app_label, schema_editor, from_state, to_state)
