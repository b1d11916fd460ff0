"""The backend itself: `ENGINE: "core.sqlite"`."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db.backends.sqlite3 import base, features, operations
from django.db.backends.utils import CursorWrapper
from django.db.transaction import atomic
from django.db.utils import Error, OperationalError

from core.processes import in_native_thread
from core.sqlite import messages
from core.sqlite.gate import WriteGate, gate_for
from core.sqlite.group_commit import Group
from core.sqlite.notification import Listener, data_version, notify
from core.sqlite.schema import DatabaseSchemaEditor
from core.write_deadline import write_timeout

_LOCKED = "database is locked: another writer has held it for too long"
_OUTSIDER_PAUSE_SECONDS = 0.01
_SLOW_COMMIT_SECONDS, _SLOW_DISK_SECONDS, _SLOW_FACTOR = 0.025, 60.0, 600
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")
_PLACEHOLDER = re.compile(r"%(?:%|s|\((\w+)\)s)")


@functools.lru_cache(maxsize=2048)
def native_sql(sql: str) -> str:
    """Return SQL with SQLite's own parameters, `?` and `:name`, in place of `%s` and `%(name)s`."""
    return _PLACEHOLDER.sub(_native, sql)


def _native(placeholder: re.Match[str]) -> str:
    if placeholder[1]:
        return f":{placeholder[1]}"
    return "?" if placeholder[0] == "%s" else "%"


@functools.lru_cache(maxsize=8)
def _uri(path: str) -> str:
    return f"{pathlib.Path(path).absolute().as_uri()}?mode=rw"


def _write_timed(gate: WriteGate, write: Callable[[], Any]) -> Any:
    """Do a write, and note when the disk was slow: the longer it took, the longer it is taken for slow.

    Within the native thread, since a busy process takes its time to go on, and would take that for the disk's.
    """
    began = time.monotonic()
    try:
        return write()
    finally:
        ended = time.monotonic()
        if ended - began > _SLOW_COMMIT_SECONDS:
            gate.disk_is_slow_until = ended + min(_SLOW_DISK_SECONDS, _SLOW_FACTOR * (ended - began))


def _sync(gate: WriteGate, write: Callable[[], Any]) -> Any:
    """Do what waits for the disk; in a native thread once that was slow, so that it stops no other greenlet."""
    is_slow = time.monotonic() < gate.disk_is_slow_until
    timed = functools.partial(_write_timed, gate, write)
    return in_native_thread(timed) if is_slow else timed()


class ConnectionPool:
    """At most `size` connections are in use at once; the one that was used last is used first."""

    def __init__(self, size: int) -> None:
        self._places = threading.BoundedSemaphore(size)
        self._idle: list[Any] = []

    def take(self, opened: Callable[[], Any], timeout: float) -> Any:
        """Return an idle connection or a newly opened one; raises OperationalError when none is free in time."""
        if not self._places.acquire(timeout=timeout):
            raise OperationalError("all connections to it are in use")
        try:
            return self._idle.pop() if self._idle else opened()
        except BaseException:
            self._places.release()
            raise

    def give_back(self, connection: Any | None) -> None:
        """Take a connection back; None for one that was closed."""
        if connection is not None:
            self._idle.append(connection)
        self._places.release()


@functools.cache
def _pool_of_process(path: str, size: int, process: int) -> ConnectionPool:
    return ConnectionPool(size)


def pool_for(database: str, size: int) -> ConnectionPool | None:
    """This process's pool for a database file, None without a size; a forked child has its own."""
    return _pool_of_process(database, size, os.getpid()) if size else None


class DatabaseFeatures(features.DatabaseFeatures):
    # Asked by checks before a command runs: the stock one opens the file to find out, and closing it checkpoints it.
    supports_json_field = True


class DatabaseOperations(operations.DatabaseOperations):
    def index_hint(self, name: str) -> str:
        return f"INDEXED BY {name}"

    def epoch(self, column: str) -> str:
        return f"unixepoch({column})"

    def last_id(self, table: str) -> str:
        return f"(SELECT seq FROM sqlite_sequence WHERE name = '{table}')"  # noqa: S608 a name of the source


class GatedCursor(CursorWrapper):
    """A cursor whose writes go through the gate also where nobody has begun a transaction, as in `save()`."""

    def execute(self, sql: Any, params: Any = None) -> Any:
        if self.db.in_atomic_block or not sql.startswith(_WRITES):
            return super().execute(sql, params)
        return self.db.execute_gated(functools.partial(super().execute, sql, params))


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's SQLite backend, with a write gate and, on demand, a pool of connections.

    A transaction holds the gate from before BEGIN until it ended. Nothing waits inside SQLite, which would stop all
    greenlets of a process: the gate waits, and BEGIN is tried again while an outsider such as the sqlite3 shell writes.
    `OPTIONS["pool"]` is the number of connections that a process may use at once; 0 is one for each thread.
    """

    SchemaEditorClass = DatabaseSchemaEditor
    features_class = DatabaseFeatures
    ops_class = DatabaseOperations
    messages = messages

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate: WriteGate | None = None
        self._pool: ConnectionPool | None = None
        self._group: Group | None = None
        self._deadline = 0.0

    # --- connections
    def get_connection_params(self) -> dict[str, Any]:
        """A file that is not there is not made: `migrate` makes it, anything else was started in the wrong place."""
        parameters: dict[str, Any] = super().get_connection_params()
        parameters.pop("pool", None)
        if not self.is_in_memory_db():
            parameters["database"] = _uri(self._path)
        return parameters

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self._pool = pool_for(self._path, self.settings_dict["OPTIONS"].get("pool", 0))
        if self._pool is None:
            return self._open(conn_params)
        return self._pool.take(lambda: self._open(conn_params), self._timeout)

    def make_cursor(self, cursor: Any) -> CursorWrapper:
        return GatedCursor(cursor, self)

    def _open(self, conn_params: dict[str, Any]) -> Any:
        opened = super().get_new_connection(conn_params)
        opened.execute("PRAGMA busy_timeout = 0")
        return opened

    def _close(self) -> None:
        if self._group is not None:
            self._leave_group()
            return
        pool, self._pool = self._pool, None
        is_reusable = pool is not None and not (self.errors_occurred or self.in_atomic_block)
        try:
            if not is_reusable:
                if self.connection is not None and self.connection.in_transaction:  # else a cursor might keep it open
                    with contextlib.suppress(Exception):
                        self.connection.rollback()
                super()._close()  # type: ignore[misc]
        finally:
            if pool is not None:
                pool.give_back(self.connection if is_reusable else None)
            self._leave_gate()

    # --- transactions
    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:
        if autocommit and self.connection is None:
            self._end_without_connection()
            return
        begins = force_begin_transaction_with_broken_autocommit and not autocommit and not self.is_in_memory_db()
        try:
            if begins:
                self._enter_gate()
            super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        except BaseException:
            if self._group is not None:
                self._leave_group()
            elif begins:
                self._leave_gate()
            raise

    def _start_transaction_under_autocommit(self) -> None:
        if self._group is None:
            self._execute_unlocked(self._begin)
        else:
            with self.wrap_database_errors:
                self._group.begin()

    def _begin(self) -> None:
        """Begin as Django would, without its cursor: every write saves 40 microseconds."""
        mode = self.transaction_mode  # type: ignore[attr-defined]
        with self.wrap_database_errors:
            self.connection.execute(f"BEGIN {mode}" if mode else "BEGIN")

    def execute_gated(self, execute: Callable[[], Any]) -> Any:
        """Execute a write that is a transaction of its own."""
        if self.is_in_memory_db():
            return execute()
        try:
            gate = self._enter_gate(keeps_connection=True)
            return self._execute_unlocked(lambda: _sync(gate, execute))
        finally:
            self._leave_gate()
            notify(self._path)

    def _execute_unlocked(self, execute: Callable[[], Any]) -> Any:
        """Execute what needs SQLite's own lock, as soon as no outsider has it."""
        while True:
            try:
                return execute()
            except OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= self._deadline:
                    raise
            time.sleep(_OUTSIDER_PAUSE_SECONDS)

    def _commit(self) -> None:
        gate, commit = self._gate, super()._commit  # type: ignore[misc]
        if gate is None:
            commit()
            return
        if self._group is not None or (gate.waiting and self._pool is not None and self.connection.in_transaction):
            self._commit_in_group(gate)
            return

        def commit_and_release() -> None:
            commit()
            gate.release_file()  # at once: this greenlet may go on much later than the native thread

        _sync(gate, commit_and_release)
        self._leave_gate()  # a COMMIT that failed keeps it: Django rolls back or closes next
        notify(self._path)

    def _rollback(self) -> None:
        if self._group is not None:
            group = self._leave_group()
            self.run_on_commit = []  # Django does so after what returns
            if not isinstance(sys.exception(), Error):  # which says what went wrong
                group.raise_undone()
            return
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._leave_gate()

    def execute_prepared(self, sql: str, parameters: Any) -> Any:
        """Execute a statement past Django's cursors; sqlite3 keeps what it has compiled."""
        return self.connection.execute(native_sql(sql), parameters)

    def execute_alone(self, sql: str, parameters: Any) -> Any:
        """Execute a write as a transaction of its own."""
        with atomic(using=self.alias):
            return self.execute_prepared(sql, parameters)

    # --- commits
    def listen(self, *, is_web: bool) -> Listener:
        return Listener(self._path, is_web=is_web)

    def data_version(self) -> tuple[int, int]:
        return data_version()

    # --- the gate
    def _enter_gate(self, *, keeps_connection: bool = False) -> WriteGate:
        """Take the gate; others may use this request's connection to the database while that waits."""
        timeout = write_timeout(self._timeout)
        self._deadline = time.monotonic() + timeout
        try:
            gate = gate_for(self._path)
            is_lent = False
            if not gate.acquire(0):
                is_lent = not keeps_connection and self._lend_connection()
                if not gate.acquire(timeout):
                    raise OperationalError(_LOCKED)
        except OSError as error:
            raise OperationalError(f"the write gate can't be used: {error}") from error
        self._gate = gate
        if gate.group is not None:
            if is_lent or (not keeps_connection and self._lend_connection()):
                self._group, self.connection = gate.group, gate.group.connection
                return gate
            gate.group.end()
        self._refuse_when_moved()
        if is_lent:
            with self.wrap_database_errors:
                self._reconnect()
        return gate

    def _lend_connection(self) -> bool:
        """Give the connection back to its pool; return False for one that failed, or is no pool's: it is kept."""
        pool = self._pool
        if pool is None or self.connection is None or self.errors_occurred:
            return False
        lent, self.connection, self._pool = self.connection, None, None
        pool.give_back(lent)
        return True

    def _reconnect(self) -> None:
        """Have a connection again, past Django's connect(), which would hold up all writers.

        Whatever the pool's size: those who have all its connections may wait for the gate, which this writer has.
        """
        parameters = self.get_connection_params()
        pool = pool_for(self._path, self.settings_dict["OPTIONS"]["pool"])
        try:
            self.connection = pool.take(lambda: self._open(parameters), 0) if pool else self._open(parameters)
            self._pool = pool
        except OperationalError:  # all are in use
            self.connection = self._open(parameters)

    def _refuse_when_moved(self) -> None:
        if os.path.lexists(self._moved):
            raise OperationalError(f"the database {messages.MOVED}: nothing is written here any more")

    def _leave_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()

    # --- group commit
    def _commit_in_group(self, gate: WriteGate) -> None:
        """Commit with the writers of this process that wait for the gate; the connection stays with them."""
        group, pool = self._group, self._pool
        with self.wrap_database_errors:
            if group is not None:
                group.release()
            else:
                assert pool is not None  # noqa: S101 - for the type checker
                commit = functools.partial(_sync, gate, self.connection.commit)
                group = Group(gate, self.connection, commit=commit, on_end=functools.partial(self._on_end, pool))
        self.connection = self._pool = self._group = self._gate = None
        group.commit()
        with contextlib.suppress(Exception):  # no reason to say that nothing was saved
            self._reconnect()

    def _on_end(self, pool: ConnectionPool, connection: Any) -> None:
        pool.give_back(connection)
        notify(self._path)

    def _leave_group(self) -> Group:
        group, self.connection = self._group, None
        self._group = self._gate = None
        assert group is not None  # noqa: S101 - for the type checker
        group.roll_back()
        return group

    def _end_without_connection(self) -> None:
        """Do what `set_autocommit(True)` does, for a connection that a group has and nobody has replaced yet."""
        self.autocommit = True
        if self.run_commit_hooks_on_set_autocommit_on:
            self.run_and_clear_commit_hooks()
            self.run_commit_hooks_on_set_autocommit_on = False

    # --- moving to another database
    def stop_writes(self) -> str:
        """Refuse all writes from now on, of other processes too; return what allows them again, in words."""
        gate = gate_for(self._path)
        if not gate.acquire(self._timeout):
            raise OperationalError(_LOCKED)
        try:
            os.close(os.open(self._moved, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise OperationalError(f"{self._moved} can't be made: {error.strerror}") from error
        finally:
            gate.release()
        return f"remove {self._moved}"

    def allow_writes(self) -> None:
        """Take writes again."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._moved)

    def highest_id(self, table: str, column: str) -> int:
        """Return the highest id that a table ever gave out."""
        with self.cursor() as cursor:
            cursor.execute("SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = %s", [table])
            row = cursor.fetchone()
            return int(row[0]) if row else 0

    def raise_highest_id(self, table: str, column: str, number: int) -> None:
        """Have a table give out ids above this one only."""
        with self.cursor() as cursor:
            cursor.execute("UPDATE sqlite_sequence SET seq = max(seq, %s) WHERE name = %s", [number, table])
            if not cursor.rowcount:
                cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, number])

    @property
    def _moved(self) -> str:
        return f"{self._path}.moved"

    @property
    def _path(self) -> str:
        return str(self.settings_dict["NAME"])

    @property
    def _timeout(self) -> float:
        return float(self.settings_dict["OPTIONS"].get("timeout", 5))
