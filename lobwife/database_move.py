"""Moving an installation from one database to another: from SQLite to PostgreSQL, or back.

The source takes no writes from the beginning on and is otherwise left as it is. The target has the tables of this
version, and is emptied and filled table by table, each in a transaction. A move that was interrupted goes on at the
first table that is not yet as the source has it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.utils import DatabaseError, IntegrityError

from core.errors import Conflict, Invalid, Unavailable
from core.text import one_line
from jobs.models import Node

SQLITE = "sqlite"
_TARGET = "target"
_FOLDER = "moving"  # where a new SQLite file is made, in the state directory
_UNFINISHED = "lobwife_unfinished_move"  # a table of the target, until all is there
_BATCH = 1000
_SHOWN = 100
_SCHEME = "postgresql://"

Row = tuple[Any, ...]


@dataclasses.dataclass
class Table:
    """A table and what was counted in it; `digest` is of all its rows, in the order of their ids."""

    model: type[models.Model]
    rows: int = 0
    digest: str = ""

    @property
    def name(self) -> str:
        return self.model._meta.db_table


@dataclasses.dataclass
class Observer:
    """What a move tells while it goes on; replace what is of interest."""

    on_table: Callable[[str, int], None] = lambda name, rows: None
    on_rows: Callable[[int], None] = lambda count: None
    on_notice: Callable[[str], None] = lambda sentence: None


def move(to: str, observer: Observer) -> list[Table]:
    """Copy this installation's database to a URL, or to a new SQLite file for "sqlite"; return what was compared.

    Raises Invalid for a URL that can't be taken, Conflict for a target that has something else, Unavailable when either
    database fails; the source then takes writes again, unless the process was killed.
    """
    with _target(to) as target:
        source = connections[DEFAULT_DB_ALIAS]
        if source.vendor == "sqlite":
            _check_references(source)
        again = source.stop_writes()  # type: ignore[attr-defined]
        try:
            tables = _copy_all(observer)
            target.finish()
        except BaseException as error:
            source.allow_writes()  # type: ignore[attr-defined]
            if isinstance(error, DatabaseError):
                raise Unavailable(
                    f"the move stopped ({one_line(str(error))}): it goes on when it is run again"
                ) from error
            raise
    observer.on_notice(f"The old database takes no more writes. To go on with it after all: {again}.")
    return tables


# --- the target
@dataclasses.dataclass
class _Target:
    finish: Callable[[], None] = lambda: None


@contextlib.contextmanager
def _target(to: str) -> Iterator[_Target]:
    """Open the target, with the tables of this version and nothing else in it than an unfinished move."""
    if to == SQLITE:
        folder = pathlib.Path(settings.STATE_DIR, _FOLDER)
        definition, environment = _sqlite(folder), {"LOBWIFE_DATABASE_URL": "", "LOBWIFE_STATE_DIR": str(folder)}
        target = _Target(finish=lambda: _put_in_place(folder))
    else:
        definition, environment = _postgres(to), {"LOBWIFE_DATABASE_URL": to}
        target = _Target()
    _prepare(definition, environment)
    try:
        yield target
    finally:
        _close()


def _postgres(url: str) -> dict[str, Any]:
    if not url.startswith(_SCHEME):
        raise Invalid(f"--to takes {_SCHEME}USER@HOST:PORT/DATABASE, or {SQLITE}")
    try:
        from_url = importlib.import_module("core.postgres.url").settings_of
    except ImportError:
        raise Unavailable("PostgreSQL needs psycopg: pip install -r requirements-postgres.txt") from None
    definition: dict[str, Any] = from_url("--to", url, connections=0, timeout=20)
    if definition["PASSWORD"]:
        raise Invalid(
            "leave the password out of --to, where every program of this machine reads it: set PGPASSWORD, or write it"
            " into ~/.pgpass"
        )
    return definition


def _sqlite(folder: pathlib.Path) -> dict[str, Any]:
    file = pathlib.Path(settings.STATE_DIR, settings.DATABASE_FILE)
    if connections[DEFAULT_DB_ALIAS].vendor == "sqlite":
        raise Invalid(f"{file} is on SQLite already: --to names a PostgreSQL")
    if file.exists() and not file.with_name(f"{file.name}.moved").exists():
        raise Conflict(f"{file} is there already: move it out of the way first")
    folder.mkdir(mode=0o700, exist_ok=True)
    options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON;"}
    return {"ENGINE": "core.sqlite", "NAME": folder / settings.DATABASE_FILE, "OPTIONS": options}


def _put_in_place(folder: pathlib.Path) -> None:
    """Have the new file be the installation's; what was moved away from it earlier is kept beside it."""
    connections[_TARGET].cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connections[_TARGET].close()
    file = pathlib.Path(settings.STATE_DIR, settings.DATABASE_FILE)
    if file.exists():
        file.rename(file.with_name(f"{file.name}.before-move"))
    for rest in ("-wal", "-shm"):
        file.with_name(file.name + rest).unlink(missing_ok=True)
    (folder / file.name).rename(file)
    file.with_name(f"{file.name}.moved").unlink(missing_ok=True)
    shutil.rmtree(folder)


def _prepare(definition: dict[str, Any], environment: dict[str, str]) -> None:
    """Open the target and migrate it; raises Conflict when it has another installation, Unavailable."""
    connections.databases[_TARGET] = connections.configure_settings(
        {DEFAULT_DB_ALIAS: connections.databases[DEFAULT_DB_ALIAS], _TARGET: definition}
    )[_TARGET]
    if connections[_TARGET].vendor != "sqlite":
        _mark_unfinished()
    done = subprocess.run(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "migrate", "--no-input", "-v0"],
        env={**os.environ, "LOBWIFE_SECRET_KEY": settings.SECRET_KEY, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise Unavailable(f"the target could not be prepared: {one_line(reason)}")


def _mark_unfinished() -> None:
    """Raise Conflict when the target has tables that no unfinished move made."""
    connection = connections[_TARGET]
    try:
        names = connection.introspection.table_names()
        if names and _UNFINISHED not in names:
            raise Conflict("the target has tables already, and not those of an unfinished move: name an empty database")
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {_UNFINISHED} (since timestamp)")
    except DatabaseError as error:
        raise Unavailable(f"the target can't be used: {one_line(str(error))}") from None


def _close() -> None:
    connections[_TARGET].close()
    del connections[_TARGET]
    del connections.databases[_TARGET]


# --- copying
def _copy_all(observer: Observer) -> list[Table]:
    tables = [Table(model) for model in _in_order()]
    sequence = iter(tables)
    for table in sequence:  # those that an earlier move brought over
        table.rows, table.digest = _summary(_rows(table.model, DEFAULT_DB_ALIAS, observer.on_notice))
        observer.on_table(table.name, table.rows)
        if _summary(_rows(table.model, _TARGET)) != (table.rows, table.digest):
            break
        observer.on_rows(table.rows)
    else:
        table = None
    if table is not None:
        rest = [table, *sequence]
        with transaction.atomic(using=_TARGET):
            for each in reversed(rest):
                each.model._base_manager.using(_TARGET)._raw_delete(_TARGET)
        for each in rest:
            _copy(each, observer)
    for each in tables:
        _carry_highest_id(each.model)
    with connections[_TARGET].cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {_UNFINISHED}")
    return tables


def _copy(table: Table, observer: Observer) -> None:
    """Copy a table and compare it; raises Conflict when a row can't be taken, or the two differ afterwards."""
    manager = table.model._base_manager
    observer.on_table(table.name, manager.using(DEFAULT_DB_ALIAS).count())
    digest = hashlib.blake2b(digest_size=16)
    table.rows = 0
    with transaction.atomic(using=_TARGET):
        rows = _rows(table.model, DEFAULT_DB_ALIAS, observer.on_notice)
        while batch := list(islice(rows, _BATCH)):
            _insert(table.model, batch)
            for row in batch:
                digest.update(_canonical(row))
            table.rows += len(batch)
            observer.on_rows(len(batch))
    table.digest = digest.hexdigest()
    there = _summary(_rows(table.model, _TARGET))
    if there != (table.rows, table.digest):
        raise Conflict(f"{table.name} has {table.rows} rows here and {there[0]} there, or they differ: run it again")


def _insert(model: type[models.Model], rows: Sequence[Row]) -> None:
    connection = connections[_TARGET]
    fields = _fields(model)
    quote = connection.ops.quote_name
    names = ", ".join(quote(str(field.column)) for field in fields)
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({', '.join(['%s'] * len(fields))})"  # noqa: S608
    prepared = [_prepared(fields, row) for row in rows]
    try:
        with transaction.atomic(using=_TARGET), connection.cursor() as cursor:
            cursor.executemany(sql, prepared)
    except (DatabaseError, ValueError):
        for row, values in zip(rows, prepared, strict=True):  # which one?
            try:
                with transaction.atomic(using=_TARGET), connection.cursor() as cursor:
                    cursor.execute(sql, values)
            except (DatabaseError, ValueError) as error:
                raise Conflict(
                    f"the row {_name(model, row)} can't be taken over ({one_line(str(error))[:_SHOWN]}): repair it with"
                    " the database's own shell, then run the move again"
                ) from None
        raise


def _prepared(fields: Sequence[models.Field[Any, Any]], row: Row) -> list[Any]:
    connection = connections[_TARGET]
    return [field.get_db_prep_save(value, connection) for field, value in zip(fields, row, strict=True)]


def _rows(
    model: type[models.Model], alias: str, on_notice: Callable[[str], None] = lambda sentence: None
) -> Iterator[Row]:
    """Yield the rows in the order of their ids, as values that every database takes.

    SQLite keeps whatever was written into a column: what is no value of the column's type becomes null, and is named.
    """
    fields = _fields(model)
    queryset = model._base_manager.using(alias).order_by("pk").values_list(*(field.attname for field in fields))
    for row in queryset.iterator(chunk_size=_BATCH):
        yield tuple(_value(model, row, *pair, on_notice) for pair in zip(fields, row, strict=True))


def _value(
    model: type[models.Model], row: Row, field: models.Field[Any, Any], value: Any, on_notice: Callable[[str], None]
) -> Any:
    if not isinstance(value, str):
        return value
    if "\0" in value:
        on_notice(f"{_name(model, row)}: {field.name} has the character NUL, for which another is put")
        value = value.replace("\0", "\ufffd")
    if isinstance(field, models.TextField | models.CharField | models.JSONField):
        return value
    try:
        return field.to_python(value)
    except ValidationError:
        on_notice(f"{_name(model, row)}: {field.name} is {value[:_SHOWN]!r}, which becomes null")
        return None


def _fields(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    return [field for field in model._meta.concrete_fields if not field.generated]


def _name(model: type[models.Model], row: Row) -> str:
    identifier = row[_fields(model).index(model._meta.pk)] if model._meta.pk in _fields(model) else row[0]
    return f"{identifier} of {model._meta.db_table}"


def _summary(rows: Iterable[Row]) -> tuple[int, str]:
    count, digest = 0, hashlib.blake2b(digest_size=16)
    for row in rows:
        count += 1
        digest.update(_canonical(row))
    return count, digest.hexdigest()


def _canonical(row: Row) -> bytes:
    """Return what is equal for equal rows; of a JSON value neither the order of keys nor `1.0` for `1` matters."""
    parts = [
        json.dumps(json.loads(json.dumps(value).replace(r"\u0000", r"\ufffd"), parse_int=float), sort_keys=True)
        if isinstance(value, dict | list)
        else repr(bytes(value) if isinstance(value, memoryview) else value)
        for value in row
    ]
    return "\0".join(parts).encode(errors="surrogatepass") + b"\n"


def _carry_highest_id(model: type[models.Model]) -> None:
    """Have the target give out no id that the source gave out before."""
    key = model._meta.pk
    if isinstance(key, models.AutoField):
        source, target = connections[DEFAULT_DB_ALIAS], connections[_TARGET]
        number = source.highest_id(model._meta.db_table, key.column)  # type: ignore[attr-defined]
        if number:
            target.raise_highest_id(model._meta.db_table, key.column, number)  # type: ignore[attr-defined]


def _in_order() -> list[type[models.Model]]:
    """Return the models that both databases have tables of, each after those that its rows refer to.

    Not the nodes: those of the target are other processes.
    """
    source = set(connections[DEFAULT_DB_ALIAS].introspection.table_names())
    target = set(connections[_TARGET].introspection.table_names())
    present = {
        model._meta.db_table: model
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy and model is not Node and model._meta.db_table in source & target
    }
    ordered: dict[str, type[models.Model]] = {}

    def add(model: type[models.Model]) -> None:
        table = model._meta.db_table
        if table in ordered or table not in present:
            return
        for field in model._meta.concrete_fields:
            if isinstance(field, models.ForeignKey) and field.related_model._meta.db_table != table:
                add(field.related_model)
        ordered[table] = model

    for model in present.values():
        add(model)
    return list(ordered.values())


def _check_references(source: Any) -> None:
    """Raise Conflict for a row that refers to one that is not there: the target would refuse it."""
    try:
        source.check_constraints()
    except IntegrityError as error:
        raise Conflict(f"{one_line(str(error))}: delete it with the sqlite3 shell, then run the move again") from None
