"""PostgreSQL's errors, as sentences that tell a person what to do."""

from __future__ import annotations

import psycopg
from django.db.utils import OperationalError
from psycopg import errors
from psycopg_pool import PoolTimeout

_LOCKS = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure, errors.QueryCanceled)
_NO_MORE = ("too many clients", "too many connections", "connection slots are reserved")  # without an SQLSTATE
_READ_ONLY = "is moved, or was moved, to another database, or its server is a standby"
_TABLES = (errors.UndefinedTable, errors.UndefinedColumn)


def in_words(error: OperationalError) -> str:
    """Return a sentence for whoever called; it names no host and no account."""
    cause = error.__cause__
    if is_about_a_lock(error):
        return "the database is locked by another writer; try again in a few seconds"
    if isinstance(cause, errors.DiskFull | errors.OutOfMemory):
        return "the disk or the memory of the database's server is full; free some space, then try again"
    if isinstance(cause, errors.TooManyConnections) or any(words in str(error) for words in _NO_MORE):
        return "the database takes no more connections; try again in a few seconds"
    if isinstance(cause, PoolTimeout):
        return "all connections of this process to the database are in use; try again in a few seconds"
    if isinstance(cause, errors.ReadOnlySqlTransaction):
        return f"the database {_READ_ONLY}: nothing is written here now; try again later"
    if isinstance(cause, _TABLES):
        return "the database lacks tables of this version; `manage.py migrate` makes them"
    return "the database can't be reached now; try again in a few seconds, `manage.py doctor` says what to do"


def in_words_for_the_console(error: OperationalError) -> str:
    """Return a sentence about what only a command meets; empty for all else."""
    cause = error.__cause__
    if isinstance(cause, errors.ReadOnlySqlTransaction):
        return (
            f"The database {_READ_ONLY}: set LOBWIFE_DATABASE_URL to the one in use, or ALTER DATABASE … RESET"
            " default_transaction_read_only to go on with this one."
        )
    if isinstance(cause, _TABLES):
        return (
            "The database lacks tables of this version: prepare it with `manage.py migrate`, or see that"
            " LOBWIFE_DATABASE_URL names the installation that you mean."
        )
    if isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None:
        reason = " ".join(str(error).split())
        return f"The database can't be reached ({reason}): see that its server runs and what LOBWIFE_DATABASE_URL says."
    return ""


def is_about_a_lock(error: OperationalError) -> bool:
    return isinstance(error.__cause__, _LOCKS)
