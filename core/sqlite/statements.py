"""Statements past Django's cursors, which take 40 of the 50 microseconds of a short one: for what REST runs most.

Parameters are SQLite's own, `?` or `:name`. No list of queries has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import TransactionManagementError

Parameters = Sequence[Any] | Mapping[str, Any]


def read_one(sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
    """Return the first row of a SELECT; None when there is none."""
    wrapper = _wrapper()
    with wrapper.wrap_database_errors:
        row: tuple[Any, ...] | None = wrapper.connection.execute(sql, parameters).fetchone()
        return row


def read_all(sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a SELECT."""
    wrapper = _wrapper()
    with wrapper.wrap_database_errors:
        rows: list[tuple[Any, ...]] = wrapper.connection.execute(sql, parameters).fetchall()
        return rows


def write(sql: str, parameters: Parameters = ()) -> int:
    """Execute a write within a transaction, which holds the write gate; return the number of rows."""
    wrapper = _writing_wrapper()
    with wrapper.wrap_database_errors:
        count: int = wrapper.connection.execute(sql, parameters).rowcount
        return count


def write_returning(sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
    """Execute a write that returns at most one row, within a transaction; None when it changed nothing."""
    wrapper = _writing_wrapper()
    with wrapper.wrap_database_errors:
        row: tuple[Any, ...] | None = wrapper.connection.execute(sql, parameters).fetchone()
        return row


def question_marks(sql: str) -> str:
    """Return SQL that Django compiled with SQLite's own parameters in place of `%s`."""
    return sql.replace("%s", "?")


def _wrapper() -> Any:
    """Return Django's connection itself: each look through `django.db.connection` takes half a microsecond."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.connection is None:
        wrapper.connect()
    return wrapper


def _writing_wrapper() -> Any:
    wrapper = _wrapper()
    if not wrapper.in_atomic_block:
        raise TransactionManagementError("this write needs a transaction")
    wrapper.validate_no_broken_transaction()
    return wrapper
