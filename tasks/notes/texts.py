"""The texts of notes: their digests, the first one, and the requests to write one."""

from __future__ import annotations

import hashlib

from core.text import escape_markdown
from core.timestamps import utc_now
from tasks.notes.models import TaskNote

_LONGEST_HEADING = 300


def digest(text: str) -> str:
    """Return what tells a text from others: its ETag without the quotes."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def heading(name: str) -> str:
    """Return the first line of a task's note."""
    return f"# {escape_markdown(' '.join(name.split())[:_LONGEST_HEADING])}"


def first_text(name: str, body: str) -> str:
    """Return the text of a new note: the body, below a heading unless it begins with one."""
    body = body.strip("\n")
    return f"\n{body}\n" if body.startswith("# ") else f"\n{heading(name)}\n\n{body}\n"


def save_request(task_id: int, text: str, replaces: list[str], written_by: str) -> TaskNote:
    """Save a text to be written, in the place of one that waits; call it in the transaction of its event."""
    earlier = TaskNote.objects.filter(pk=task_id).first()
    row = TaskNote(task_id=task_id, text=text, replaces=replaces, written_at=utc_now(), written_by=written_by)
    row.version = earlier.version + 1 if earlier is not None else 1
    row.save()
    return row
