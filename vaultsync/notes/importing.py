"""Notes from before the database, named by slug, become tasks; and what notes say otherwise than their rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from core.frontmatter import Document, Unsafe, parse_bytes
from core.timestamps import parse as parse_time
from core.timestamps import seconds_text
from tasks.ids import parse_task_id
from tasks.models import Status, Task
from tasks.services import create_task
from vaultsync.git.files import Blocked, Files
from vaultsync.notes.layout import (
    SYSTEM_ACTIVE,
    TASK_FOLDERS,
    is_copy_beside,
    is_safe_slug,
    note_values,
    task_of_path,
)

ACTOR = "vault import"
IMPORTED, SKIPPED, DRIFT = "Imported", "Skipped", "Drift"
_STATUS_OF_FOLDER = {"active": "queued", "completed": "completed", "failed": "failed"}
_MINUTES = re.compile(r"\d{1,18}", re.ASCII)  # no more than the database can hold
_HEADING = re.compile(r"^# +(\S.*)$", re.MULTILINE)
_TIMES = ("assigned_at", "completed_at")
_TEXTS = ("model", "assigned_to", "discord_thread_id", "workflow")


def import_notes(files: Files, *, dry_run: bool) -> Iterator[tuple[str, str, str]]:
    """Make a task of every note that no task knows, under the note's slug; the next sync renames the notes.

    Doing it again makes nothing twice. Yields what was done, the path, and a sentence.
    """
    notes = (note for folder in TASK_FOLDERS for note in (files.root / folder).glob("*.md"))
    for note in sorted(note for note in notes if not is_copy_beside(note.name)):
        path, slug = note.relative_to(files.root).as_posix(), note.stem
        try:
            document, number = parse_bytes(files.read(path)), task_of_path(path)
        except (Unsafe, Blocked) as error:
            yield SKIPPED, path, str(error)
            continue
        if number is not None:
            yield from _compare(path, number, document)
        elif obstacle := _obstacle(slug, document):
            yield SKIPPED, path, obstacle
        elif dry_run:
            yield IMPORTED, path, f"would become a task: {_fields(path, slug, document)['name']}"
        else:
            created, detail = parse_time(document.value("created")), f"Imported from {path}"
            created_at = seconds_text(created) if created else None
            made = create_task(fields=_fields(path, slug, document), actor=ACTOR, detail=detail, created_at=created_at)
            yield IMPORTED, path, f"became {made.task_id}"


def _obstacle(slug: str, document: Document) -> str:
    """Return why a note can't become a task."""
    number = parse_task_id(str(document.value("id")))
    if number is not None and Task.objects.filter(pk=number).exists():
        return f"it is the note of T{number}; a sync puts it back in its place"
    if not is_safe_slug(slug):
        return "its name can't be a slug"
    owner = Task.objects.filter(slug=slug).first()
    return f"{owner.task_id} has this slug" if owner else ""


def _compare(path: str, number: int, document: Document) -> Iterator[tuple[str, str, str]]:
    task = Task.objects.filter(pk=number).first()
    if task is None:
        yield SKIPPED, path, f"there is no task T{number}"
        return
    values = note_values(task, document.value("status")).items()
    differs = [key for key, value in values if isinstance(value, str) and document.value(key) not in (value, None)]
    if differs:
        yield DRIFT, path, f"{', '.join(differs)} differ from the database, which decides"


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
