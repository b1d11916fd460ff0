"""Notes from before the database, named by slug, become tasks; and what notes say otherwise than their rows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from core.timestamps import parse as parse_time
from core.timestamps import seconds_text
from tasks.ids import parse_task_id
from tasks.models import Status, Task
from tasks.services import create_task
from vaultsync.git.files import Blocked, Files
from vaultsync.notes.frontmatter import Document, parse
from vaultsync.notes.layout import (
    OVERVIEW,
    SYSTEM_ACTIVE,
    TASK_FOLDERS,
    is_copy_beside,
    is_safe_slug,
    note_values,
    task_of_path,
)
from vaultsync.notes.yaml_keys import Unsafe

ACTOR = "vault import"
_STATUS_OF_FOLDER = {"active": "queued", "completed": "completed", "failed": "failed"}
_MINUTES = re.compile(r"\d{1,18}", re.ASCII)  # no more than the database can hold
_TEXTS = ("model", "assigned_to", "discord_thread_id", "workflow")


@dataclass
class ImportReport:
    """The result of an import; each entry is a path and a sentence."""

    imported: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    drift: list[tuple[str, str]] = field(default_factory=list)


def import_notes(files: Files, *, dry_run: bool) -> ImportReport:
    """Make a task of every note that no task knows, under the note's slug; the next sync renames the notes.

    Doing it again makes nothing twice: a slug that a task has is known.
    """
    report = ImportReport()
    for path in sorted(_note_files(files)):
        if path == OVERVIEW:
            continue
        try:
            number = task_of_path(path)
            document = parse(files.read(path).decode())
            if number is not None:
                _compare(report, path, number, document)
            else:
                _import(report, path, document, dry_run)
        except (Unsafe, Blocked) as error:
            report.skipped.append((path, str(error)))
        except UnicodeDecodeError:
            report.skipped.append((path, "it is not UTF-8 text"))
    return report


def _note_files(files: Files) -> Iterator[str]:
    """Yield the paths of everything named `*.md` in the tasks' folders."""
    for folder in TASK_FOLDERS:
        if files.kind(folder) == "folder":
            names = os.listdir(files.absolute(folder))
            yield from (f"{folder}/{name}" for name in names if name.endswith(".md"))


def _import(report: ImportReport, path: str, document: Document, dry_run: bool) -> None:
    stem = path.rpartition("/")[2].removesuffix(".md")
    owner = parse_task_id(str(document.value("id")))
    if is_copy_beside(path):
        return
    if owner is not None and Task.objects.filter(pk=owner).exists():
        report.skipped.append((path, f"it is the note of T{owner}; a sync puts it back in its place"))
        return
    if not is_safe_slug(stem):
        report.skipped.append((path, "its name can't be a slug"))
        return
    owner_of_slug = Task.objects.filter(slug=stem).first()
    if owner_of_slug is not None:
        report.skipped.append((path, f"{owner_of_slug.task_id} has this slug"))
        return
    fields = _fields(path, stem, document)
    if dry_run:
        report.imported.append((path, f"would become a task: {fields['name']}"))
        return
    created = parse_time(document.value("created"))
    made = create_task(
        fields=fields,
        actor=ACTOR,
        detail=f"Imported from {path}",
        created_at=seconds_text(created) if created else None,
    )
    report.imported.append((path, f"became {made.task_id}"))


def _fields(path: str, stem: str, document: Document) -> dict[str, Any]:
    folder = path.split("/")[1]
    status = document.value("status")
    status = Status.ACTIVE.value if status == SYSTEM_ACTIVE else status
    fields: dict[str, Any] = {
        "name": _text(document, "name") or _text(document, "title") or _heading(document) or stem,
        "slug": stem,
        "type": _text(document, "type") or "swe",
        "status": status if status in Status.values else _STATUS_OF_FOLDER[folder],
        "priority": _text(document, "priority") or "normal",
        **{name: _text(document, name) for name in _TEXTS},
        "requires_qa": str(document.value("requires_qa")).lower() in ("true", "yes"),
    }
    for name in ("assigned_at", "completed_at"):
        fields[name] = _text(document, name) if parse_time(document.value(name)) else None
    minutes = _text(document, "estimate_minutes")
    fields["estimate_minutes"] = int(minutes) if minutes and _MINUTES.fullmatch(minutes) else None
    repos = document.value("repos") or document.value("repo")
    fields["repos"] = [repos] if isinstance(repos, str) else repos
    return fields


def _text(document: Document, key: str) -> str | None:
    value = document.value(key)
    return value.strip() or None if isinstance(value, str) else None


def _heading(document: Document) -> str | None:
    lines = (line[2:].strip() for line in document.body.splitlines() if line.startswith("# "))
    return next((line for line in lines if line), None)


def _compare(report: ImportReport, path: str, number: int, document: Document) -> None:
    task = Task.objects.filter(pk=number).first()
    if task is None:
        report.skipped.append((path, f"there is no task T{number}"))
        return
    differs = [
        key
        for key, value in note_values(task).items()
        if isinstance(value, str) and document.value(key) not in (value, None)
        if not (key == "status" and document.value(key) == SYSTEM_ACTIVE and value == Status.ACTIVE)
    ]
    if differs:
        report.drift.append((path, f"{', '.join(differs)} differ from the database, which decides"))
