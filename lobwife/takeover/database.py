"""Taking over the database file: inspect it, keep a copy of the older service's; migrations do the rest."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator

from core import env
from core.errors import Unavailable
from core.files import locked, replace_with_numbered_backup, sync_file, write_private
from core.sqlite.copy_reader import known_migrations
from core.sqlite.gate import GateTimeout, gate_for
from lobwife.takeover.inspection import examine, is_complete

COPY_SUFFIX = ".pre-migration"
_FILES = ("", "-wal", "-journal")
_ATTEMPTS = 5
_GATE_SECONDS = 10.0
_FOLDER = ".take-over-"


@contextlib.contextmanager
def prepared(state: pathlib.Path) -> Iterator[None]:
    """Hold the state directory, made with its secret key where they are missing, against another start.

    Raises Unavailable when it can't be made or written.
    """
    with contextlib.ExitStack() as stack:
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(locked(state / "migrate.lock"))
            key = state / "secret-key"
            if not env.text("LOBWIFE_SECRET_KEY") and not (key.exists() and key.stat().st_size):
                write_private(key, secrets.token_urlsafe(50) + "\n")
        except OSError as error:
            raise Unavailable(
                f"the state directory {state} can't be written ({error.strerror}): make it writable and see that its"
                " disk has room, or set LOBWIFE_STATE_DIR to another"
            ) from error
        yield


def make_ready(database: pathlib.Path) -> None:
    """Inspect the file before it is migrated; one that the older service left is copied to `….pre-migration` first.

    Inside `prepared()`. Raises Conflict for a damaged or newer file, Unavailable when it can't be copied; the file and
    its WAL are then as they were.
    """
    known = known_migrations()
    if not any(os.path.lexists(f"{database}{suffix}") for suffix in _FILES):
        return
    if database.is_file() and is_complete(database, known):
        return
    with _copied(database) as copy:
        if examine(copy, database, known):
            _keep(copy, database.with_name(database.name + COPY_SUFFIX))


def make_file(database: pathlib.Path) -> None:
    """Make an empty file where there is none, for SQLite to fill; raises Unavailable when it can't be made."""
    try:
        if not database.exists():
            database.touch()
    except OSError as error:
        raise Unavailable(
            f"{database} can't be made ({error.strerror}): make its directory writable and see that its disk has room,"
            " then start again"
        ) from error


@contextlib.contextmanager
def _copied(database: pathlib.Path) -> Iterator[pathlib.Path]:
    """Copy the file with its WAL or hot journal, unopened, into a temporary folder.

    To open and close the original would checkpoint its WAL. No connection of this process may be open: closing any
    descriptor of the file drops the POSIX locks that SQLite holds. Raises Unavailable when there is no room, or the
    file goes on changing.
    """
    for leftover in database.parent.glob(f"{_FOLDER}*"):  # of a start that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        try:
            temporary = tempfile.TemporaryDirectory(prefix=_FOLDER, dir=database.parent, ignore_cleanup_errors=True)
            folder = pathlib.Path(stack.enter_context(temporary))
            _copy_while_still(database, folder)
        except OSError as error:
            raise Unavailable(
                f"{database} can't be copied to be looked at ({error.strerror}) and was left as it is: it needs as"
                " much room again in the state directory"
            ) from error
        yield folder / database.name


def _keep(copy: pathlib.Path, target: pathlib.Path) -> None:
    """Keep a closed copy durably under a name; an earlier file there that differs is moved aside, never overwritten."""
    try:
        os.chmod(copy, 0o600)
        sync_file(copy)
        replace_with_numbered_backup(copy, target)
    except OSError as error:
        raise Unavailable(f"the copy {target} can't be kept ({error.strerror}): nothing was changed") from error


def _copy_while_still(database: pathlib.Path, folder: pathlib.Path) -> None:
    """Copy until nothing has changed meanwhile; web or daemon, which may be at work already, wait at the write gate."""
    busy = Unavailable(f"{database} is being written by another program: stop it, then start again")
    for _ in range(_ATTEMPTS):
        with contextlib.ExitStack() as stack:
            if os.path.exists(f"{database}.gate"):
                try:
                    stack.enter_context(gate_for(str(database)).held(_GATE_SECONDS))
                except GateTimeout:
                    raise busy from None
            before = [_stamp(f"{database}{suffix}") for suffix in _FILES]
            for suffix, stamp in zip(_FILES, before, strict=True):
                target = folder / f"{database.name}{suffix}"
                target.unlink(missing_ok=True)
                if stamp is not None:
                    with contextlib.suppress(FileNotFoundError):  # a WAL that its last user just removed
                        shutil.copyfile(f"{database}{suffix}", target)
            if before == [_stamp(f"{database}{suffix}") for suffix in _FILES]:
                return
    raise busy


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced; None without a file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
