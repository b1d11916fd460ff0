"""`manage.py check`: what is wrong with this installation, and what to do about it.

None opens the database for writing, and an empty machine passes.
"""

from __future__ import annotations

import os
import pathlib
import sqlite3
import stat
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Info, Warning
from django.db import connection

from core import env
from core.database.backend import is_postgres, server

SQLITE_AT_LEAST = (3, 51, 3)
_HEADER_BYTES = 20
_WAL_MARKS = b"\x02\x02"
_SECRETS = ("LOBWIFE_DATABASE_URL", "GH_APP_PEM", "GH_APP_PEM_PATH", "GH_TOKEN", "DISCORD_BOT_TOKEN")


def register() -> None:
    """Make Django run these checks."""
    for check in (sqlite_version, journal_mode, database_server, state_directory, secret_key, vault, debug):
        checks.register(check, "lobwife")


def sqlite_version(**_: Any) -> Iterator[CheckMessage]:
    if is_postgres():
        return
    if sqlite3.sqlite_version_info < SQLITE_AT_LEAST:
        yield Error(
            f"SQLite is {sqlite3.sqlite_version}: below 3.51.3 two processes can corrupt a database in WAL mode.",
            hint="Install the pinned requirements, whose pysqlite3 brings a current SQLite. It has no wheels for Linux"
            " on arm64: build it there from source against SQLite 3.51.3 or newer.",
            id="lobwife.E001",
        )


def journal_mode(**_: Any) -> Iterator[CheckMessage]:
    if is_postgres():
        return
    database = pathlib.Path(str(connection.settings_dict["NAME"]))
    if not database.is_file():
        return
    try:
        is_in_wal_mode = _is_in_wal_mode(database)
    except OSError as error:
        hint = "Give the user that runs lobwife the right to read and write it."
        yield Error(f"The database {database} can't be read: {error.strerror}.", hint=hint, id="lobwife.E002")
        return
    if not is_in_wal_mode:
        yield Warning(
            f"The database {database} is not in WAL mode, so readers and writers wait for each other.",
            hint="`manage.py migrate` puts it in WAL mode. Where it does not stay so, the disk is one that can't share"
            " memory between processes, such as NFS: move the state directory to a local one.",
            id="lobwife.W002",
        )


def database_server(**_: Any) -> Iterator[CheckMessage]:
    """Check a database that has a server: that it answers, its version and encoding, and what the account may do."""
    database = server()
    for number, sentence, hint in database.obstacles() if database is not None else ():
        yield Error(sentence, hint=hint, id=f"lobwife.E{number:03}")


def state_directory(**_: Any) -> Iterator[CheckMessage]:
    folder: pathlib.Path = settings.STATE_DIR
    hint = "Set LOBWIFE_STATE_DIR to a directory that the user that runs lobwife can write."
    if os.path.lexists(folder):
        if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield Error(f"The state directory {folder} can't be written.", hint=hint, id="lobwife.E003")
        else:
            yield from _open_to_others(folder, "state directory", "lobwife.W003")
        return
    nearest = next(parent for parent in folder.parents if parent.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        made = "`manage.py migrate` makes it."
        yield Info(f"The state directory {folder} is not there yet.", hint=made, id="lobwife.I003")
    else:
        yield Error(f"The state directory {folder} can't be made.", hint=hint, id="lobwife.E003")


def secret_key(**_: Any) -> Iterator[CheckMessage]:
    path = settings.STATE_DIR / "secret-key"
    yield from _open_to_others(path, "secret key's file", "lobwife.W004")
    if is_postgres() and not env.text("LOBWIFE_SECRET_KEY"):
        yield Warning(
            "The secret key is this state directory's alone: no other node can read what it encrypts.",
            hint=f"Set LOBWIFE_SECRET_KEY to the same for all nodes, to what {path} has where there is one.",
            id="lobwife.W035",
        )


def vault(**_: Any) -> Iterator[CheckMessage]:
    folder: pathlib.Path = settings.VAULT_PATH
    if not folder.exists():
        hint = "The daemon makes one, from VAULT_REPO where that is set; or set VAULT_PATH to where it is."
        yield Info(f"There is no vault at {folder}, so tasks are not mirrored yet.", hint=hint, id="lobwife.I005")
    elif not (folder / ".git").exists():
        sentence = f"The vault {folder} is not a git repository, so tasks are not mirrored."
        yield Warning(
            sentence, hint="Set VAULT_PATH to the top of a clone of the vault's repository.", id="lobwife.W005"
        )


def debug(**_: Any) -> Iterator[CheckMessage]:
    present = [name for name in _SECRETS if env.text(name)]
    if settings.DEBUG and present:
        yield Error(
            f"Debug is on while secrets are present ({', '.join(present)}): its error pages show values to anyone.",
            hint="Unset LOBWIFE_DEBUG, or take the secrets out of the environment.",
            id="lobwife.E008",
        )


def _is_in_wal_mode(database: pathlib.Path) -> bool:
    """Read the file's header: asking SQLite would open the file, and closing it checkpoints its WAL."""
    if connection.connection is not None:  # closing a descriptor of our own would drop the locks of this connection
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            return bool(cursor.fetchone()[0] == "wal")
    with database.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    return not header or header[18:20] == _WAL_MARKS


def _open_to_others(path: pathlib.Path, what: str, identifier: str) -> Iterator[CheckMessage]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & stat.S_IRWXO:
        yield Warning(
            f"The {what} {path} is open to every user of this machine (mode {mode:03o}).",
            hint=f"chmod {700 if path.is_dir() else 600} {path}",
            id=identifier,
        )
