"""The JSON files that held the state before there was a database: jobs.json, tasks.json, token-audit.json."""

from __future__ import annotations

import json
import logging
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from django.db import models, transaction

from broker.models import LegacyRegistration, TokenAudit
from core.errors import Invalid, LobwifeError, Unavailable
from core.files import replace_with_numbered_backup
from core.text import as_count, as_number, as_text
from jobs.models import JobState

Convert = Callable[[object], object]


@dataclass(frozen=True)
class Layout:
    """A file and its model: an object of entries by the model's `primary_key`, or a list when there is none.

    A column's value is converted from the entry's of the same name, or of the name in `keys`.
    """

    file: str
    model: type[models.Model]
    columns: dict[str, Convert]
    primary_key: str | None = None
    keys: dict[str, str] = field(default_factory=dict)

    def rows(self, data: object) -> list[models.Model]:
        """Return the rows that a file's content stands for; raises Invalid for another shape."""
        if self.primary_key is None:
            if not isinstance(data, list):
                raise Invalid("it is not a list of entries")
            return [self._row(entry, f"entry {position}") for position, entry in enumerate(data, 1)]
        if not isinstance(data, dict):
            raise Invalid("it is not an object")
        return [
            self._row(entry, f"the entry {name[:100]!r}", **{self.primary_key: as_text(name)})
            for name, entry in data.items()
        ]

    def _row(self, entry: object, label: str, **key: object) -> models.Model:
        if not isinstance(entry, dict):
            raise Invalid(f"{label} is not an object")
        values = {name: convert(entry.get(self.keys.get(name, name))) for name, convert in self.columns.items()}
        return self.model(**key, **values)


def _text_or(default: str) -> Convert:
    return lambda value: as_text(value) or default


LAYOUTS = (
    Layout(
        "jobs.json",
        JobState,
        {
            **dict.fromkeys(("last_run", "last_status", "last_output"), as_text),
            "last_duration": as_number,
            **dict.fromkeys(("run_count", "fail_count"), as_count),
            "enabled": lambda value: value is None or bool(value),
        },
        primary_key="name",
    ),
    Layout(
        "tasks.json",
        LegacyRegistration,
        {
            "repos": _text_or("[]"),
            "lobster_type": _text_or("unknown"),
            "registered_at": _text_or(""),
            "status": _text_or("active"),
            "token_count": as_count,
        },
        primary_key="task_id",
    ),
    Layout(
        "token-audit.json",
        TokenAudit,
        {"task_id": _text_or(""), "repos": as_text, "action": _text_or(""), "created_at": _text_or("")},
        keys={"created_at": "timestamp"},
    ),
)


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JsonFile:
    """A file that was read and found whole, with the rows that it stands for."""

    path: pathlib.Path
    layout: Layout
    rows: Sequence[models.Model]

    def store(self) -> int:
        """Add the rows that are not in the database yet; returns how many."""
        manager = self.layout.model._default_manager
        if self.layout.primary_key is None:
            return len(manager.bulk_create(self._missing()))
        before = manager.count()
        manager.bulk_create(self.rows, ignore_conflicts=True)
        return manager.count() - before

    def _missing(self) -> list[models.Model]:
        """Return the rows without a key that an interrupted import has not stored, told by counting equal ones."""
        names = list(self.layout.columns)
        stored = Counter(self.layout.model._default_manager.values_list(*names))
        missing = []
        for row in self.rows:
            values = tuple(getattr(row, name) for name in names)
            if stored[values]:
                stored[values] -= 1
            else:
                missing.append(row)
        return missing


def read(folder: pathlib.Path) -> list[JsonFile]:
    """Return the files that exist and can be read; one that can't be is left where it is, with a warning."""
    files = []
    for layout in LAYOUTS:
        path = folder / layout.file
        try:
            files.append(JsonFile(path, layout, layout.rows(json.loads(path.read_bytes()))))
        except FileNotFoundError:
            continue
        except (ValueError, RecursionError, LobwifeError, OSError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            log.warning(
                "%s can't be read (%s): it was left as it is, and the start goes on without it. Repair it and start"
                " again to have it imported, or move it away",
                path,
                reason,
            )
    return files


def import_all(files: Sequence[JsonFile]) -> dict[str, int]:
    """Store all rows in one transaction, existing rows winning, then rename the files to `….migrated`.

    Returns the number of new rows of each file. A repeat after an interruption adds nothing twice.
    """
    with transaction.atomic():
        added = {file.path.name: file.store() for file in files}
    for file in files:
        try:
            replace_with_numbered_backup(file.path, file.path.with_name(f"{file.path.name}.migrated"))
        except OSError as error:
            raise Unavailable(
                f"{file.path} is imported but can't be renamed ({error.strerror}): make the state directory writable,"
                " then start again"
            ) from error
    return added
