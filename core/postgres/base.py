"""The backend itself: `ENGINE: "core.postgres"`."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import import_module
from typing import Any, ClassVar

import psycopg
from django.db.backends.postgresql import base, features, operations, schema
from django.db.transaction import atomic
from django.db.utils import DatabaseError, DatabaseErrorWrapper, OperationalError
from psycopg import errors, pq
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap
from psycopg.types.json import Jsonb
from psycopg.types.numeric import NumericLoader
from psycopg.types.string import StrDumperUnknown
from psycopg_pool import ConnectionPool, PoolTimeout

from core.postgres import messages
from core.postgres.leadership import LeaderLock
from core.postgres.notification import CHANNEL, Listener
from core.postgres.requirements import VERSION_AT_LEAST, Obstacle, obstacles
from core.processes import is_under_gevent
from core.write_deadline import write_timeout

# Of all transactions, so that they are one after the other, as on SQLite; "lobwife" in ASCII.
WRITER_LOCK = 0x6C6F6277696665
_LOCKS = 0x6C6F6277  # the first half of the keys of those with a name
_READ_ONLY = "default_transaction_read_only"
_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_TEXTS, _BY_BYTES = ("text", "varchar"), "C"
_OPERATIONAL = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,  # this process stood still, and the server let others go on
)
_WHOLE = ("IntegerField", "PositiveIntegerField")
_SMALL = ("SmallIntegerField", "PositiveSmallIntegerField")
_WRITES = ("INSERT", "UPDATE", "DELETE")
_FENCE = "DO $$BEGIN PERFORM 1 FROM ({} FOR SHARE) AS fence; IF NOT FOUND THEN RAISE EXCEPTION 'fenced'; END IF; END$$;"
_COMMIT = f"NOTIFY {CHANNEL}; COMMIT"
_FENCED = "another daemon leads since: nothing of this transaction was committed"
_ALL_WRITE = "other writers of this process wait for the database's lock"
_REASON_SECONDS = 2
_NONE_BY_ITSELF = 2**31  # with None, psycopg prepares no statement at all, not even when it is told to
_REPLACEMENT = "\ufffd"
_TIME = r"^[1-9]\d{3}-(0[1-9]|1[0-2])-\d\d[ T]\d\d:\d\d:\d\d"


class DatabaseOperations(operations.DatabaseOperations):
    integer_field_ranges = {
        **operations.DatabaseOperations.integer_field_ranges,
        **{name: (-(2**63), 2**63 - 1) for name in _WHOLE},
        **{name: (-(2**31), 2**31 - 1) for name in _SMALL},
    }

    def index_hint(self, name: str) -> str:
        return ""

    def last_id(self, table: str) -> str:
        return "NULL"

    def epoch(self, column: str) -> str:
        """Return an expression that fails for no text: nobody validated what old files have."""
        year, month, day, hour, minute, second = (
            f"substr({column}, {place}, {length})::int"
            for place, length in ((1, 4), (6, 2), (9, 2), (12, 2), (15, 2), (18, 2))
        )
        return (
            f"CASE WHEN {column} ~ '{_TIME}' THEN extract(epoch FROM make_date({year}, {month}, 1))::bigint"
            f" + (({day} - 1) * 24 + {hour}) * 3600 + {minute} * 60 + {second} END"
        )

    def adapt_json_value(self, value: Any, encoder: type[json.JSONEncoder] | None) -> Any:
        return Jsonb(value, dumps=functools.partial(_json_text, encoder))

    def lookup_cast(self, lookup_type: str, internal_type: str | None = None) -> str:
        """Fold case on both sides by the database's own collation, not by the column's, which knows ASCII only."""
        lookup: str = super().lookup_cast(lookup_type, internal_type)
        return lookup.replace("UPPER(%s::text)", 'UPPER(%s::text COLLATE "default")')


class DatabaseSchemaEditor(schema.DatabaseSchemaEditor):
    def _iter_column_sql(
        self, column_db_type: str, params: Any, model: Any, field: Any, field_db_params: Any, include_default: bool
    ) -> Iterator[str]:
        collation = field_db_params.get("collation") or _collation(column_db_type)
        parameters = {**field_db_params, "collation": collation}
        column = super()._iter_column_sql  # type: ignore[misc]
        yield from column(column_db_type, params, model, field, parameters, include_default)

    def _alter_column_type_sql(
        self, model: Any, old_field: Any, new_field: Any, new_type: str, old_collation: Any, new_collation: Any
    ) -> Any:
        collation = new_collation or _collation(new_type)
        alter = super()._alter_column_type_sql  # type: ignore[misc]
        return alter(model, old_field, new_field, new_type, old_collation, collation)

    def _create_like_index_sql(self, model: Any, field: Any) -> None:
        """Make no second index for LIKE: by the bytes of a text, any index serves it."""


def _collation(column_type: str) -> str | None:
    return _BY_BYTES if column_type.startswith(_TEXTS) else None


class DatabaseFeatures(features.DatabaseFeatures):
    minimum_database_version = (VERSION_AT_LEAST,)


class _ErrorWrapper(DatabaseErrorWrapper):
    """What is the installation's fault is operational, as on SQLite: no such table, no writes, a transaction ended."""

    wrapper: Any

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if isinstance(exc_value, _OPERATIONAL):
            self.wrapper.errors_occurred = True
            raise OperationalError(*exc_value.args) from exc_value
        super().__exit__(exc_type, exc_value, traceback)


class _NumericLoader(NumericLoader):
    """The sum of whole numbers is a whole number, as on SQLite."""

    def load(self, data: Buffer) -> Any:
        digits = bytes(data)
        return int(digits) if digits.lstrip(b"-").isdigit() else super().load(data)


class _StrDumper(StrDumperUnknown):
    """A text can't have the character NUL here: another stands in its place, so that no output of a script fails."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", _REPLACEMENT) if "\0" in obj else obj)


@functools.cache
def _adapters(template: AdaptersMap) -> AdaptersMap:
    adapters = AdaptersMap(template)
    adapters.register_loader("numeric", _NumericLoader)
    adapters.register_dumper(str, _StrDumper)
    return adapters


def _json_text(encoder: type[json.JSONEncoder] | None, value: Any) -> str:
    return json.dumps(value, cls=encoder).replace(r"\u0000", rf"\u{ord(_REPLACEMENT):04x}")


def _connection_class() -> type[psycopg.Connection[Any]]:
    """Return the class of a pool's connections; gevent is imported only by processes that run under it."""
    if not is_under_gevent():
        return psycopg.Connection
    kind: type[psycopg.Connection[Any]] = import_module("core.postgres.gevent_connection").GeventConnection
    return kind


def _check(connection: psycopg.Connection[Any]) -> None:
    """Raise for a pooled connection that the server closed: it has said so by now. It costs no round trip."""
    connection.pgconn.consume_input()
    if connection.pgconn.status != pq.ConnStatus.OK:
        raise psycopg.OperationalError("the server closed the connection")


@functools.cache
def _places_of_writers(alias: str, connections: int, process: int) -> threading.BoundedSemaphore:
    """Return what lets at most half of a process's connections write; a forked child has its own."""
    return threading.BoundedSemaphore(max(1, connections // 2))


def _in_a_transaction(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    """Make a write that is in no transaction one that is, so that its COMMIT is ours."""
    connection = context["connection"]
    if connection.in_atomic_block or not str(sql).startswith(_WRITES):
        return execute(sql, params, many, context)
    with atomic(using=connection.alias):
        return execute(sql, params, many, context)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's PostgreSQL backend, on which the apps may think what they may on SQLite.

    A transaction is the only one: it takes an advisory lock as it begins, in the same round trip, and waits for it no
    longer than the write deadline. So what a service has read within is true until its COMMIT, and ids of events are
    in the order of commits. With each COMMIT, in its round trip too, listeners are notified.

    Texts are compared by their bytes, and whole numbers have 64 bits, whatever the column's field says.
    """

    SchemaEditorClass = DatabaseSchemaEditor
    ops_class = DatabaseOperations
    features_class = DatabaseFeatures
    messages = messages
    _connection_pools: ClassVar[dict[str, ConnectionPool[Any]]] = {}
    data_types = {
        **base.DatabaseWrapper.data_types,
        **dict.fromkeys(_WHOLE, "bigint"),
        **dict.fromkeys(_SMALL, "integer"),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wrap_database_errors = _ErrorWrapper(self)
        self._fence = ""
        self._place: threading.BoundedSemaphore | None = None
        self._waited = 0.0  # for the place, in seconds

    def execute_prepared(self, sql: str, parameters: Any) -> psycopg.Cursor[Any]:
        """Execute a statement past Django's cursors, prepared by the server: to plan it takes longer than to run it."""
        return psycopg.Cursor(self.connection).execute(sql, parameters, prepare=True)

    def execute_alone(self, sql: str, parameters: Any) -> psycopg.Cursor[Any]:
        """Execute a write as a transaction of its own, without the lock of writers: nothing with an id comes of it."""
        if not self._fence:
            return self.execute_prepared(sql, parameters)
        with atomic(using=self.alias):
            return self.execute_prepared(sql, parameters)

    # --- connections
    def get_connection_params(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super().get_connection_params()
        parameters.pop("timeout", None)
        parameters["context"] = _adapters(parameters["context"])
        parameters["prepare_threshold"] = _NONE_BY_ITSELF
        return parameters

    @property
    def pool(self) -> ConnectionPool[Any] | None:
        """This process's pool; Django's, with a check that asks the server nothing."""
        if self.alias not in self._connection_pools and (options := self.settings_dict["OPTIONS"].get("pool")):
            parameters = {**self.get_connection_params(), "autocommit": True}
            how = {"configure": self._configure_connection, "check": _check}  # type: ignore[attr-defined]
            made = ConnectionPool(connection_class=_connection_class(), kwargs=parameters, open=False, **how, **options)
            self._connection_pools.setdefault(self.alias, made)
        return super().pool  # type: ignore[no-any-return]

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect, or take one of the pool, which does not say itself why it has none: then ask the server once."""
        try:
            return super().get_new_connection(conn_params)
        except PoolTimeout:
            psycopg.connect(**{**self._plain_parameters(), "connect_timeout": _REASON_SECONDS}).close()
            raise

    def _set_autocommit(self, autocommit: bool) -> None:
        """Do nothing where nothing changes: Django asks at each connect and after each transaction."""
        if self.connection.autocommit != autocommit:
            super()._set_autocommit(autocommit)  # type: ignore[misc]

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._leave_place()

    # --- transactions
    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:
        begins = force_begin_transaction_with_broken_autocommit and not autocommit
        if begins:
            self._take_place()
        try:
            super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        except BaseException:
            if begins:
                self._leave_place()
            raise

    def _take_place(self) -> None:
        """Wait, without a connection, until fewer than half of this process's pool are in use by writers.

        All writers wait for one lock: were all connections theirs, nobody could read.
        """
        pool = self.settings_dict["OPTIONS"].get("pool")
        self._waited = 0.0
        if not pool:
            return
        places = _places_of_writers(self.alias, pool["max_size"], os.getpid())
        if not places.acquire(blocking=False):
            began = time.monotonic()
            self.close_if_unusable_or_obsolete()
            if not places.acquire(timeout=write_timeout(self._timeout)):
                raise OperationalError(_ALL_WRITE) from errors.LockNotAvailable(_ALL_WRITE)
            self._waited = time.monotonic() - began
        self._place = places

    def _leave_place(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.release()

    def _start_transaction_under_autocommit(self) -> None:
        """Begin, and take the lock of writers."""
        usual = self._timeout
        timeout = max(0.001, write_timeout(usual) - self._waited)
        limit = f"SET LOCAL lock_timeout = {round(timeout * 1000)};" if timeout < usual else ""
        try:
            # Whatever the server's default is: what is read after the wait for the lock has to be what is true then.
            self._run(f"BEGIN ISOLATION LEVEL READ COMMITTED; {limit} SELECT pg_advisory_xact_lock({WRITER_LOCK})")
        except BaseException:
            if self.connection is not None and not self.connection.closed:
                with contextlib.suppress(psycopg.Error):  # the connection was lost meanwhile: the first error says why
                    self.connection.rollback()
            raise

    def _commit(self) -> None:
        if self.connection is not None:
            status = self.connection.pgconn.transaction_status
            if status == pq.TransactionStatus.INERROR:
                raise OperationalError("the transaction is rolled back, since one of its statements had failed")
            if status != pq.TransactionStatus.IDLE and self._fence:
                self._commit_fenced()
            elif status != pq.TransactionStatus.IDLE:
                self._run(_COMMIT)
        self._leave_place()  # a COMMIT that failed keeps it: Django rolls back or closes next

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._leave_place()

    def _run(self, sql: str) -> None:
        """Execute some statements in one round trip."""
        with self.wrap_database_errors:
            self.connection.execute(sql, prepare=False)

    def set_fence(self, query: str) -> None:
        """Commit from now on only while this query has a row, which it locks until then; "" for all that is to come.

        It counts for this thread's connection, and for writes without a transaction too.
        """
        self._fence = query
        self.execute_wrappers = [_in_a_transaction] if query else []

    def _commit_fenced(self) -> None:
        try:
            self._run(f"{_FENCE.format(self._fence)} {_COMMIT}")
        except DatabaseError as error:
            if isinstance(error.__cause__, errors.RaiseException):
                raise OperationalError(_FENCED) from error
            raise

    @contextlib.contextmanager
    def one_at_a_time(self, name: str) -> Iterator[None]:
        """Hold a lock of this name for a block, over several transactions; wait as long as another holds it."""
        key = f"{_LOCKS}, {zlib.crc32(name.encode()) - 2**31}"
        self.ensure_connection()
        self._run(f"SET lock_timeout = 0; SELECT pg_advisory_lock({key}); RESET lock_timeout")
        try:
            yield
        finally:
            if self.connection is not None and not self.connection.closed:  # else the server has let go of it
                self._run(f"SELECT pg_advisory_unlock({key})")

    # --- moving to another database
    def stop_writes(self) -> str:
        """Refuse all writes from now on, of other processes too; return what allows them again, in words."""
        name = self.ops.quote_name(self.settings_dict["NAME"])
        with self.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION READ WRITE; ALTER DATABASE {name} SET {_READ_ONLY} = on")
            cursor.execute(_END_OTHERS)
        return f"ALTER DATABASE {name} RESET {_READ_ONLY}"

    def allow_writes(self) -> None:
        """Take writes again, from sessions that begin now."""
        name = self.ops.quote_name(self.settings_dict["NAME"])
        with self.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION READ WRITE; ALTER DATABASE {name} RESET {_READ_ONLY}")

    def highest_id(self, table: str, column: str) -> int:
        """Return the highest id that a table ever gave out."""
        with self.cursor() as cursor:
            cursor.execute("SELECT pg_sequence_last_value(pg_get_serial_sequence(%s, %s))", [table, column])
            return int(cursor.fetchone()[0] or 0)

    def raise_highest_id(self, table: str, column: str, number: int) -> None:
        """Have a table give out ids above this one only."""
        with self.cursor() as cursor:
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", [table, column, number])

    # --- connections of their own
    def listen(self, *, is_web: bool) -> Listener:
        return Listener(self._plain_parameters())

    def leader_lock(self) -> LeaderLock:
        return LeaderLock(self._plain_parameters())

    def _plain_parameters(self) -> dict[str, Any]:
        parameters = self.get_connection_params()
        return {name: parameters[name] for name in parameters if name not in ("context", "cursor_factory")}

    def data_version(self) -> tuple[object, int]:
        """Return which transactions are over: every write is one."""
        self.ensure_connection()
        with self.wrap_database_errors:
            return self.connection.execute("SELECT pg_current_snapshot()::text").fetchone()[0], 0

    def server_time(self) -> datetime:
        self.ensure_connection()
        with self.wrap_database_errors:
            time: datetime = self.connection.execute("SELECT clock_timestamp()").fetchone()[0]
            return time

    def size_bytes(self) -> int:
        self.ensure_connection()
        with self.wrap_database_errors:
            return int(self.connection.execute("SELECT pg_database_size(current_database())").fetchone()[0])

    def server_version(self) -> str:
        self.ensure_connection()
        return str(self.connection.info.parameter_status("server_version")).split()[0]

    def obstacles(self) -> list[Obstacle]:
        """Return what keeps this from running on its database."""
        try:
            self.ensure_connection()
            with self.wrap_database_errors:
                return list(obstacles(self.connection))
        except OperationalError as error:
            reason = " ".join(str(error).split())
            hint = "See that the server runs and lets this account in, and what LOBWIFE_DATABASE_URL says."
            return [Obstacle(30, f"The database can't be reached: {reason}", hint)]

    @property
    def _timeout(self) -> float:
        return float(self.settings_dict["OPTIONS"].get("timeout", 20))


os.register_at_fork(after_in_child=DatabaseWrapper._connection_pools.clear)
