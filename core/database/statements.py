"""Statements past Django's cursors, which take 40 of the 50 microseconds of a short one: for what REST runs most.

Parameters are `%s` or `%(name)s`, and `%%` is a percent sign. No list of queries has them.
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
        row: tuple[Any, ...] | None = wrapper.execute_prepared(sql, parameters).fetchone()
        return row


def read_all(sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a SELECT."""
    wrapper = _wrapper()
    with wrapper.wrap_database_errors:
        rows: list[tuple[Any, ...]] = wrapper.execute_prepared(sql, parameters).fetchall()
        return rows


def write(sql: str, parameters: Parameters = ()) -> int:
    """Execute a write within a transaction; return the number of rows."""
    wrapper = _writing_wrapper()
    with wrapper.wrap_database_errors:
        count: int = wrapper.execute_prepared(sql, parameters).rowcount
        return count


def write_returning(sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
    """Execute a write that returns at most one row, within a transaction; None when it changed nothing."""
    wrapper = _writing_wrapper()
    with wrapper.wrap_database_errors:
        row: tuple[Any, ...] | None = wrapper.execute_prepared(sql, parameters).fetchone()
        return row


def write_alone(sql: str, parameters: Parameters = ()) -> int:
    """Execute one write that is a transaction of its own, of which nobody is notified; return the number of rows.

    For what comes often and has no event: on PostgreSQL it waits for no other writer but those of its rows.
    """
    wrapper = _wrapper()
    with wrapper.wrap_database_errors:
        count: int = wrapper.execute_alone(sql, parameters).rowcount
        return count


def index_hint(name: str) -> str:
    """Return what makes a planner use an index, after the table's name; empty where none has to be told."""
    return str(connections[DEFAULT_DB_ALIAS].ops.index_hint(name))  # type: ignore[attr-defined]


def epoch(column: str) -> str:
    """Return the expression for a time that is stored as text, in seconds since 1970; NULL for any other text."""
    return str(connections[DEFAULT_DB_ALIAS].ops.epoch(column))  # type: ignore[attr-defined]


def last_id(table: str) -> str:
    """Return the expression for the last id that a table, empty by now, gave out; NULL where none is remembered."""
    return str(connections[DEFAULT_DB_ALIAS].ops.last_id(table))  # type: ignore[attr-defined]


def _wrapper() -> Any:
    """Return Django's connection itself: each look through `django.db.connection` takes half a microsecond."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.connection is None:
        wrapper.ensure_connection()
    return wrapper


def _writing_wrapper() -> Any:
    wrapper = _wrapper()
    if not wrapper.in_atomic_block:
        raise TransactionManagementError("this write needs a transaction")
    wrapper.validate_no_broken_transaction()
    return wrapper
