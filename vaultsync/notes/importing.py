"""Notes from before the database, named by slug, become tasks; and what notes say otherwise than their rows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from core.timestamps import parse as parse_time
from core.timestamps import seconds_text
from tasks.ids import parse_task_id
from tasks.models import Status, Task
from tasks.services import create_task
from vaultsync.git.files import Blocked, Files
from vaultsync.notes.frontmatter import Document, Unsafe, parse
from vaultsync.notes.layout import (
    SYSTEM_ACTIVE,
    TASK_FOLDERS,
    is_copy_beside,
    is_safe_slug,
    note_values,
    task_of_path,
)

ACTOR = "vault import"
_STATUS_OF_FOLDER = {"active": "queued", "completed": "completed", "failed": "failed"}
_MINUTES = re.compile(r"\d{1,18}", re.ASCII)  # no more than the database can hold
_HEADING = re.compile(r"^# +(\S.*)$", re.MULTILINE)
_TIMES = ("assigned_at", "completed_at")
_TEXTS = ("model", "assigned_to", "discord_thread_id", "workflow")


class ImportReport:
    """Makes a task of every note that no task knows, under the note's slug; the next sync renames the notes.

    Doing it again makes nothing twice: a slug that a task has is known. Each entry is a path and a sentence.
    """

    def __init__(self, files: Files, *, dry_run: bool) -> None:
        self.imported: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []
        self.drift: list[tuple[str, str]] = []
        for path in sorted(_note_files(files)):
            try:
                document = parse(files.read(path).decode())
                number = task_of_path(path)
                if number is None:
                    self._import(path, document, dry_run)
                else:
                    self._compare(path, number, document)
            except (Unsafe, Blocked) as error:
                self.skipped.append((path, str(error)))
            except UnicodeDecodeError:
                self.skipped.append((path, "it is not UTF-8 text"))

    def _import(self, path: str, document: Document, dry_run: bool) -> None:
        slug = path.rpartition("/")[2].removesuffix(".md")
        number = parse_task_id(str(document.value("id")))
        owner = Task.objects.filter(slug=slug).first()
        if number is not None and Task.objects.filter(pk=number).exists():
            self.skipped.append((path, f"it is the note of T{number}; a sync puts it back in its place"))
        elif not is_safe_slug(slug):
            self.skipped.append((path, "its name can't be a slug"))
        elif owner is not None:
            self.skipped.append((path, f"{owner.task_id} has this slug"))
        elif dry_run:
            self.imported.append((path, f"would become a task: {_fields(path, slug, document)['name']}"))
        else:
            created = parse_time(document.value("created"))
            made = create_task(
                fields=_fields(path, slug, document),
                actor=ACTOR,
                detail=f"Imported from {path}",
                created_at=seconds_text(created) if created else None,
            )
            self.imported.append((path, f"became {made.task_id}"))

    def _compare(self, path: str, number: int, document: Document) -> None:
        task = Task.objects.filter(pk=number).first()
        if task is None:
            self.skipped.append((path, f"there is no task T{number}"))
            return
        values = note_values(task, document.value("status")).items()
        differs = [key for key, value in values if isinstance(value, str) and document.value(key) not in (value, None)]
        if differs:
            self.drift.append((path, f"{', '.join(differs)} differ from the database, which decides"))


def _note_files(files: Files) -> Iterator[str]:
    for folder in TASK_FOLDERS:
        if files.kind(folder) == "folder":
            names = os.listdir(files.absolute(folder))
            yield from (f"{folder}/{name}" for name in names if name.endswith(".md") and not is_copy_beside(name))


def _fields(path: str, slug: str, document: Document) -> dict[str, Any]:
    status = document.value("status")
    status = Status.ACTIVE.value if status == SYSTEM_ACTIVE else status
    minutes = _text(document, "estimate_minutes")
    repos = document.value("repos") or document.value("repo")
    return {
        "name": _text(document, "name") or _text(document, "title") or _heading(document) or slug,
        "slug": slug,
        "type": _text(document, "type") or "swe",
        "status": status if status in Status.values else _STATUS_OF_FOLDER[path.split("/")[1]],
        "priority": _text(document, "priority") or "normal",
        "requires_qa": str(document.value("requires_qa")).lower() in ("true", "yes"),
        "estimate_minutes": int(minutes) if minutes and _MINUTES.fullmatch(minutes) else None,
        "repos": [repos] if isinstance(repos, str) else repos,
        **{name: _text(document, name) for name in _TEXTS},
        **{name: _text(document, name) for name in _TIMES if parse_time(document.value(name))},
    }


def _text(document: Document, key: str) -> str | None:
    value = document.value(key)
    return value.strip() or None if isinstance(value, str) else None


def _heading(document: Document) -> str | None:
    match = _HEADING.search(document.body)
    return match[1].strip() if match else None
