"""The copies that are kept, compressed, in `backups/` of the state directory."""

from __future__ import annotations

import contextlib
import gzip
import os
import pathlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from core.errors import Conflict, Unavailable
from core.files import locked, replace_durably, sync_file
from core.sqlite import upkeep

HOURLY, DAILY = 24, 7
MOST_BYTES = 200 * 10**6
_NAME = re.compile(r"lobmob-(\d{8}T\d{6}Z)\.db\.gz", re.ASCII)
_STAMP = "%Y%m%dT%H%M%SZ"
_LEVEL = 6


@dataclass(frozen=True, order=True)
class Kept:
    """A copy: the moment whose state it holds, where it lies, its size."""

    moment: datetime
    path: pathlib.Path
    size: int


def folder() -> pathlib.Path:
    return pathlib.Path(settings.STATE_DIR) / "backups"


def keep_copy() -> pathlib.Path:
    """Copy the database now, keep the copy compressed, and let go of those that are not to be kept any longer.

    Raises Unavailable when it can't be made, Conflict while another process is making one.
    """
    return _keep(upkeep.back_up())


def keep_when_due() -> bool:
    """Make the hourly copy when it is due and keep what was not kept yet; asks for no other tick. Raises as above."""
    upkeep.back_up_when_due()
    copy = upkeep.newest_copy()
    if not _path_of(copy).exists():
        _keep(copy)
    return False


def kept_copies() -> list[Kept]:
    """Oldest first; whatever else lies in the folder is not ours."""
    found: list[Kept] = []
    with contextlib.suppress(FileNotFoundError):
        for path in folder().iterdir():
            name = _NAME.fullmatch(path.name)
            if name is None:
                continue
            with contextlib.suppress(ValueError, FileNotFoundError):
                moment = datetime.strptime(name[1], _STAMP).replace(tzinfo=UTC)
                found.append(Kept(moment, path, path.stat().st_size))
    return sorted(found)


def to_let_go(copies: Iterable[Kept], most_bytes: int = MOST_BYTES) -> list[Kept]:
    """All but the newest of each of the last 24 hours and 7 days that have any; then the oldest, while too large.

    The newest of all stays, however large it is.
    """
    newest_first = sorted(copies, reverse=True)
    hours = {f"{each.moment:%Y%m%d%H}": each for each in reversed(newest_first)}
    days = {f"{each.moment:%Y%m%d}": each for each in reversed(newest_first)}
    wanted = {hours[hour] for hour in sorted(hours)[-HOURLY:]} | {days[day] for day in sorted(days)[-DAILY:]}
    let_go: list[Kept] = []
    total = 0
    for each in newest_first:
        if each is not newest_first[0] and (each not in wanted or total + each.size > most_bytes):
            let_go.append(each)
        else:
            total += each.size
    return let_go


def _keep(copy: pathlib.Path) -> pathlib.Path:
    target = _path_of(copy)
    part = target.with_name(f"{target.name}.part")
    try:
        folder().mkdir(mode=0o700, exist_ok=True)
        with locked(folder() / ".lock", wait=False):
            try:
                _compress(copy, part)
                sync_file(part)
                replace_durably(part, target)
            finally:
                part.unlink(missing_ok=True)
            for each in to_let_go(kept_copies()):
                each.path.unlink(missing_ok=True)
    except BlockingIOError:
        raise Conflict(f"{folder()} is being written by another process: wait for it") from None
    except OSError as error:
        raise Unavailable(
            f"the copy {target} can't be kept ({error.strerror}): see that the state directory can be written and its"
            " disk has room; earlier copies are as they were"
        ) from error
    return target


def _compress(copy: pathlib.Path, part: pathlib.Path) -> None:
    for left_behind in folder().glob("*.part"):  # of a process that was killed
        left_behind.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with (
        open(descriptor, "wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0) as packed,
        copy.open("rb") as source,
    ):
        shutil.copyfileobj(source, packed, 2**20)


def _path_of(copy: pathlib.Path) -> pathlib.Path:
    """The name says whose moment it is, so that the same copy is kept once."""
    moment = datetime.fromtimestamp(int(copy.stat().st_mtime), UTC)
    return folder() / f"lobmob-{moment.strftime(_STAMP)}.db.gz"
