"""Once a week the newest copy is unpacked and read whole: a copy that nobody tried is a hope."""

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
from core.sqlite.copy_reader import unpacked
from core.timestamps import iso_text, parse, utc_now

log = logging.getLogger(__name__)
EVERY = timedelta(days=7)
_FILE = "last-trial.json"


@dataclass(frozen=True)
class Trial:
    """What came of it, in a sentence."""

    copy: str
    tried_at: datetime
    passed: bool
    found: str


def try_newest() -> Trial | None:
    """Read the newest copy as a restore would, and keep the outcome; None when there is no copy yet."""
    copies = kept_copies()
    if not copies:
        return None
    newest = copies[-1].path
    try:
        with unpacked(newest, pathlib.Path(settings.STATE_DIR)) as database:
            passed, found = True, _read_whole(database)
    except (LobwifeError, sqlite3.Error) as error:
        passed, found = False, str(error)
        log.error("the copy %s can't be restored: %s", newest, error)
    trial = Trial(newest.name, utc_now(), passed, found)
    data = {"copy": trial.copy, "tried_at": iso_text(trial.tried_at), "passed": passed, "found": found}
    write_private(folder() / _FILE, json.dumps(data) + "\n")
    return trial


def try_when_due() -> bool:
    """Try the newest copy when the last trial is a week old; asks for no other tick."""
    last = last_trial()
    if last is None or not timedelta() <= utc_now() - last.tried_at < EVERY:
        try_newest()
    return False


def last_trial() -> Trial | None:
    """The last outcome; None when there is none, or it can't be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        data = json.loads((folder() / _FILE).read_text())
        tried_at = parse(data["tried_at"])
        if tried_at is not None:
            return Trial(str(data["copy"]), tried_at, bool(data["passed"]), str(data["found"]))
    return None


def _read_whole(database: pathlib.Path) -> str:
    with contextlib.closing(sqlite3.connect(database)) as copy:
        tables = [name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {name: sum(1 for _ in copy.execute(f'SELECT * FROM "{name}"')) for name in tables}  # noqa: S608
    return f"{len(tables)} tables with {sum(counts.values())} rows, {counts['tasks']} of them tasks"
