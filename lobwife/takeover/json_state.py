"""The three JSON files that held the state before there was a database."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from core.errors import Invalid, LobwifeError, Unavailable
from core.files import replace_with_numbered_backup
from lobwife.takeover import job_state as jobs
from lobwife.takeover import registrations as broker

_MIGRATED = ".migrated"


@dataclass(frozen=True)
class LegacyFile:
    """A file that was read and found whole, and how its rows get into the database."""

    path: pathlib.Path
    rows: Sequence[Any]
    store: Callable[..., int]


_KINDS: tuple[tuple[str, Callable[[object], Sequence[Any]], Callable[..., int]], ...] = (
    ("jobs.json", jobs.read_job_state, jobs.import_job_state),
    ("tasks.json", broker.read_registrations, broker.import_registrations),
    ("token-audit.json", broker.read_audit, broker.import_audit),
)


def read(folder: pathlib.Path) -> list[LegacyFile]:
    """The files that are there; raises Invalid for the first that is damaged, before anything was written."""
    found = []
    for name, read_rows, store in _KINDS:
        path = folder / name
        try:
            rows = read_rows(json.loads(path.read_bytes()))
        except FileNotFoundError:
            continue
        except (ValueError, RecursionError, LobwifeError, OSError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise Invalid(
                f"{path} can't be read ({reason}) and was left as it is: repair it, or move it away to start without it"
            ) from error
        found.append(LegacyFile(path, rows, store))
    return found


def import_all(files: Sequence[LegacyFile]) -> dict[str, int]:
    """Store the files' rows in one transaction, rows that exist winning, then rename the files to `….migrated`.

    Returns how many rows each file brought. A repeat after an interruption adds nothing twice.
    """
    with transaction.atomic():
        added = {each.path.name: each.store(rows=each.rows) for each in files}
    for each in files:
        try:
            replace_with_numbered_backup(each.path, each.path.with_name(each.path.name + _MIGRATED))
        except OSError as error:
            raise Unavailable(
                f"{each.path} is imported but can't be renamed ({error.strerror}): make the state directory writable,"
                " then start again"
            ) from error
    return added
