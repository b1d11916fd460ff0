"""The backend itself: `ENGINE: "core.sqlite"`."""

import os
import pathlib
from typing import Any

from django.db.backends.sqlite3 import base, features
from django.db.utils import OperationalError

from core.sqlite import syncing
from core.sqlite.bell import ring
from core.sqlite.gate import GateTimeout, WriteGate, gate_for
from core.sqlite.schema import DatabaseSchemaEditor
from core.write_deadline import write_timeout

_LOCKED = "database is locked: another writer has held it for too long"


class DatabaseFeatures(features.DatabaseFeatures):
    # Asked by checks before a command runs: the stock one opens the file to find out, and closing it checkpoints it.
    supports_json_field = True


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's SQLite backend; a transaction holds the write gate from before BEGIN until it ended.

    `atomic()` returns when its transaction is on the disk, as `synchronous=FULL` has it, but lets the next writer in
    before: COMMIT itself, under `synchronous=NORMAL`, only writes, and this process syncs the WAL once the gate is
    open. Writers that wait for the disk at the same time then share one sync: with 8 at once twice as many commits a
    second. What a later frame of the WAL depends on comes before it, so a power cut takes only what no caller was told.
    Where an answer tells of the commit, the answer may wait for the disk instead (core.sqlite.syncing).
    """

    SchemaEditorClass = DatabaseSchemaEditor
    features_class = DatabaseFeatures

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate: WriteGate | None = None
        self._syncs_later = self._may_be_lost = False

    def get_connection_params(self) -> dict[str, Any]:
        """A file that is not there is not made: `migrate` makes it, anything else was started in the wrong place."""
        parameters: dict[str, Any] = super().get_connection_params()
        if not self.is_in_memory_db():
            parameters["database"] = f"{pathlib.Path(parameters['database']).absolute().as_uri()}?mode=rw"
        return parameters

    def leave_unsynced(self) -> None:
        """The transaction under way does not wait for the disk; see unsynced_atomic()."""
        self._may_be_lost = True

    def _start_transaction_under_autocommit(self) -> None:
        if self.is_in_memory_db():
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
            return
        usual = float(self.settings_dict["OPTIONS"].get("timeout", 5))
        timeout = write_timeout(usual)
        try:
            gate = gate_for(str(self.settings_dict["NAME"]))
            waited = gate.acquire(timeout)
        except GateTimeout:
            raise OperationalError(_LOCKED) from None
        except OSError as error:
            raise OperationalError(f"the write gate can't be opened: {error}") from error
        self._gate = gate
        try:
            self._sync_later()
            self._begin_within(timeout, waited, usual)
        except BaseException:
            self._leave_gate()
            raise

    def _begin_within(self, timeout: float, waited: float, usual: float) -> None:
        """BEGIN, waiting for outsiders such as the sqlite3 shell no longer than what the gate left of the timeout."""
        if timeout == usual and waited < timeout / 10:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
            return
        with self.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {max(1, int((timeout - waited) * 1000))}")
            try:
                super()._start_transaction_under_autocommit()  # type: ignore[misc]
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {int(usual * 1000)}")

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        gated, syncs = self._gate is not None, self._syncs_later and not self._may_be_lost
        self._leave_gate()  # a COMMIT that failed keeps it: Django rolls back or closes next
        if syncs:
            syncing.after_commit(self._wal)
        if gated:
            ring(str(self.settings_dict["NAME"]))

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._leave_gate()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._syncs_later = False  # nothing can be set on a connection that is closed
            self._leave_gate()

    def _leave_gate(self) -> None:
        gate, self._gate, self._may_be_lost = self._gate, None, False
        if gate is None:
            return
        try:
            if self._syncs_later and self.connection is not None:
                self._execute_raw("PRAGMA synchronous = FULL")
        finally:
            self._syncs_later = False
            gate.release()

    # --- durability
    @property
    def _wal(self) -> str:
        return f"{self.settings_dict['NAME']}-wal"

    def _sync_later(self) -> None:
        if os.path.exists(self._wal):  # without it, as in the journal mode of another file system, SQLite syncs
            self._execute_raw("PRAGMA synchronous = NORMAL")
            self._syncs_later = True

    def _execute_raw(self, statement: str) -> None:
        """Past Django's cursors, which take ten times as long."""
        with self.wrap_database_errors:
            self.connection.execute(statement)
