"""A copy of a database file that nothing has opened: opening the original, and closing it, checkpoints its WAL."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from core.errors import Unavailable
from core.files import replace_with_numbered_backup, sync_file
from core.sqlite.gate import GateTimeout, gate_for

COMPANIONS = ("", "-wal", "-journal")
_ATTEMPTS = 5
_GATE_SECONDS = 10.0
_FOLDER = ".take-over-"


@contextlib.contextmanager
def copied(database: pathlib.Path) -> Iterator[pathlib.Path]:
    """A copy of the file with its WAL or hot journal, in a folder of its own that goes away afterwards.

    The caller holds the start's lock and has no connection to the file: closing any descriptor of it would drop the
    POSIX locks that SQLite holds in this process. Raises Unavailable when there is no room, or the file doesn't stay
    still.
    """
    for left_behind in database.parent.glob(f"{_FOLDER}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    folder: pathlib.Path | None = None
    try:
        try:
            folder = pathlib.Path(tempfile.mkdtemp(prefix=_FOLDER, dir=database.parent))
            _copy_while_still(database, folder)
        except OSError as error:
            raise Unavailable(
                f"{database} can't be copied to be looked at ({error.strerror}) and was left as it is: it needs as"
                " much room again in the state directory"
            ) from error
        yield folder / database.name
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def keep(copy: pathlib.Path, target: pathlib.Path) -> None:
    """Keep a closed copy durably under a name; an earlier file there that differs is moved aside, never overwritten."""
    try:
        os.chmod(copy, 0o600)
        sync_file(copy)
        replace_with_numbered_backup(copy, target)
    except OSError as error:
        raise Unavailable(f"the copy {target} can't be kept ({error.strerror}): nothing was changed") from error


def _copy_while_still(database: pathlib.Path, folder: pathlib.Path) -> None:
    for _ in range(_ATTEMPTS):
        with _no_writer_of_ours(database):
            before = _stamps(database)
            for suffix, stamp in zip(COMPANIONS, before, strict=True):
                target = folder / f"{database.name}{suffix}"
                target.unlink(missing_ok=True)
                if stamp is not None:
                    with contextlib.suppress(FileNotFoundError):  # a WAL that its last user just removed
                        shutil.copyfile(f"{database}{suffix}", target)
            if before == _stamps(database):
                return
    raise Unavailable(f"{database} is being written by another program: stop it, then start again")


@contextlib.contextmanager
def _no_writer_of_ours(database: pathlib.Path) -> Iterator[None]:
    """Hold the write gate, where there is one: web or daemon may be at work already."""
    if not os.path.exists(f"{database}.gate"):
        yield
        return
    try:
        with gate_for(str(database)).held(_GATE_SECONDS):
            yield
    except GateTimeout:
        raise Unavailable(f"{database} is being written by another program: stop it, then start again") from None


def _stamps(database: pathlib.Path) -> list[tuple[int, int, int] | None]:
    return [_stamp(f"{database}{suffix}") for suffix in COMPANIONS]


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
