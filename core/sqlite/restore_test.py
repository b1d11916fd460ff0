"""The weekly restore test: the newest copy is unpacked, checked and read whole."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from core.errors import LobwifeError
from core.files import write_private
from core.sqlite.copies import folder, kept_copies
from core.sqlite.copy_reader import tables, unpacked
from core.timestamps import iso_text, parse, utc_now

log = logging.getLogger(__name__)
EVERY = timedelta(days=7)
_FILE = "last-trial.json"


@dataclass(frozen=True)
class RestoreTest:
    """The outcome of a test; `result` is a sentence."""

    copy: str
    tested_at: datetime
    passed: bool
    result: str


def run_restore_test() -> None:
    """Read the newest copy, if there is one, as a restore would, and store the outcome."""
    copies = kept_copies()
    if not copies:
        return
    newest = copies[-1].path
    try:
        with unpacked(newest, pathlib.Path(settings.STATE_DIR)) as database:
            passed, result = True, _read_all(database)
    except (LobwifeError, sqlite3.Error) as error:
        passed, result = False, str(error)
        log.error("the copy %s can't be restored: %s", newest, error)
    data = {"copy": newest.name, "tried_at": iso_text(utc_now()), "passed": passed, "found": result}
    write_private(folder() / _FILE, json.dumps(data) + "\n")


def run_when_due() -> bool:
    """Test the newest copy when the last test is a week old."""
    last = last_restore_test()
    if last is None or not timedelta() <= utc_now() - last.tested_at < EVERY:
        run_restore_test()
    return False


def last_restore_test() -> RestoreTest | None:
    """Return the last outcome; None when there is none, or it can't be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        data = json.loads((folder() / _FILE).read_text())
        tested_at = parse(data["tried_at"])
        if tested_at is not None:
            return RestoreTest(str(data["copy"]), tested_at, bool(data["passed"]), str(data["found"]))
    return None


def _read_all(database: pathlib.Path) -> str:
    with contextlib.closing(sqlite3.connect(database)) as copy:
        counts = {name: sum(1 for _ in copy.execute(f'SELECT * FROM "{name}"')) for name in tables(copy)}  # noqa: S608
    return f"{len(counts)} tables with {sum(counts.values())} rows, {counts['tasks']} of them tasks"
