"""The backend itself: `ENGINE: "lobwife.sqlite"`."""

from typing import Any

from django.db.backends.sqlite3 import base, features
from django.db.utils import OperationalError

from lobwife.base.patience import write_timeout
from lobwife.sqlite.gate import GateTimeout, WriteGate, gate_for
from lobwife.sqlite.schema import DatabaseSchemaEditor

_LOCKED = "database is locked: another writer has held it for too long"


class DatabaseFeatures(features.DatabaseFeatures):
    # Asked by checks before a command runs: the stock one opens the file to find out, and closing it checkpoints it.
    supports_json_field = True


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's SQLite backend; a transaction holds the write gate from before BEGIN until it ended."""

    SchemaEditorClass = DatabaseSchemaEditor
    features_class = DatabaseFeatures

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate: WriteGate | None = None

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
        try:
            self._begin_within(timeout, waited, usual)
        except BaseException:
            gate.release()
            raise
        self._gate = gate

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
        self._leave_gate()  # a COMMIT that failed keeps it: Django rolls back or closes next

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._leave_gate()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._leave_gate()

    def _leave_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()
