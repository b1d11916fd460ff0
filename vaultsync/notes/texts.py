"""The texts of notes, below their frontmatter, for REST: read from the working copy, written by the next sync.

Web runs no git: it leaves a text in a row (tasks/notes.py), and the sync writes it into the note. The row says which
texts it stands in for, so that what people write into the vault meanwhile is not lost. It stays until the commit is
pushed: a commit of ours that is not pushed may be made anew, and then the text with it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from django.conf import settings
from django.db import close_old_connections, transaction
from django.utils.http import parse_etags

from core.callers import Caller
from core.errors import Conflict, PreconditionFailed
from core.frontmatter import Unsafe, parse, parse_bytes
from core.timestamps import utc_now
from tasks.ids import near
from tasks.models import Task, TaskNote
from tasks.notes import digest, requested_text, save_request
from tasks.services import check_texts, get_task, log_event
from vaultsync.git.files import Blocked, Files
from vaultsync.models import VaultState
from vaultsync.notes.layout import NOTE_BYTES, TOO_LARGE, note_path
from vaultsync.queries import is_enabled, is_running, recorded_path

WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.1
_EVENT = "note_written"
_REFUSED = "note_refused"
_CHANGED = "the note was changed in the vault since it was read: read it again, then decide anew"


@dataclass(frozen=True)
class NoteText:
    """The text of a note. `state` is `vault`, `requested` while the vault does not have it yet, or `none`."""

    text: str
    state: str

    @property
    def etag(self) -> str:
        return f'"{digest(self.text)}"'


# --- for REST
def text_of(task: Task) -> NoteText:
    """Return the text of a task's note, as asked for last or as the vault has it; raises Conflict."""
    requested, committed_at = requested_text(task.pk) or (None, None)
    if requested is not None and committed_at is None:
        return NoteText(requested, "requested")
    text = _in_vault(task)
    if text is not None:
        return NoteText(text, "vault")
    return NoteText(requested, "requested") if requested is not None else NoteText("", "none")


def request_text(*, task_id: int, text: str, if_match: str | None, actor: str | None, caller: Caller) -> int:
    """Ask for a text to be written into a task's note; return the version of the request.

    Raises NotFound, PreconditionFailed when the note is not what `if_match` names, Conflict, TooLarge.
    """
    with transaction.atomic():
        current = text_of(get_task(task_id))
        if if_match is not None and not {"*", current.etag} & set(parse_etags(if_match)):
            raise PreconditionFailed(f"the note of T{task_id} is not what If-Match names: read it again")
        log_event(task_id=task_id, event_type=_EVENT, detail=None, actor=actor, caller=caller)
        check_texts({"text": text}, caller)
        row = TaskNote.objects.filter(pk=task_id, refusal="").first()
        replaces = [] if row is None else [*row.replaces, digest(row.text)]
        if if_match is None or (row is not None and not row.replaces and row.committed_at is None):
            replaces = []
        elif current.state == "vault":
            replaces.append(digest(current.text))
        return save_request(task_id, text, replaces, caller.name).version


def wait_until_written(task_id: int, version: int) -> bool:
    """Return whether the vault has the text, after some seconds at most; raises Conflict when it was not written."""
    state = VaultState.objects.first()
    deadline = time.monotonic() + (WAIT_SECONDS if is_enabled() and is_running(state) else 0)
    while True:
        row = TaskNote.objects.filter(pk=task_id).first()
        if row is None or row.version != version or row.committed_at is not None:
            return True
        if row.refusal:
            raise Conflict(row.refusal)
        if time.monotonic() >= deadline:
            return False
        close_old_connections()  # others may use it while this one waits
        time.sleep(_POLL_SECONDS)


def _in_vault(task: Task) -> str | None:
    """Return the text of the note in the working copy; None when there is none. Raises Conflict."""
    recorded = recorded_path(task.pk)
    if recorded is None or not is_enabled():
        return None
    files = Files(settings.VAULT_PATH)
    try:
        for path in (recorded, note_path(task)):  # a sync may be about to move it
            with contextlib.suppress(FileNotFoundError):
                content = files.read(path, NOTE_BYTES + 1)
                if len(content) > NOTE_BYTES:
                    raise Blocked(TOO_LARGE)
                return parse_bytes(content).body
    except (Blocked, Unsafe) as error:
        raise Conflict(f"the note of {task.task_id} can't be read: {error}") from None
    return None


# --- for the sync
class TextRequests:
    """The texts that a sync is to write, and what became of them."""

    def __init__(self) -> None:
        self._rows: dict[int, TaskNote] = {}
        self._done: list[TaskNote] = []

    def load(self, task_ids: list[int]) -> None:
        """Read the requests for these tasks."""
        self._rows = {row.task_id: row for row in TaskNote.objects.filter(near("pk", task_ids), refusal="")}

    def is_waiting(self, task: Task) -> bool:
        row = self._rows.get(task.pk)
        return row is not None and row.committed_at is None

    def apply(self, task: Task, note: str, *, is_new: bool) -> str:
        """Return the note with the text that it is to have; unchanged without one, or if somebody wrote since."""
        row = self._rows.get(task.pk)
        if row is None:
            return note
        document = parse(note)
        present = digest(document.body)
        may_replace = is_new or present in (row.replaces or [present])
        if present != digest(row.text) and may_replace:
            frontmatter = note.removesuffix(document.body)
            if not frontmatter.endswith(("\n", "\r")):
                frontmatter += document.newline
            note = f"{frontmatter}{row.text}"
        if row.committed_at is None:
            if may_replace or present == digest(row.text):
                row.committed_at, row.replaces = utc_now(), row.replaces or [present]
            else:
                row.refusal = _CHANGED
            self._done.append(row)
        return note

    def record(self) -> None:
        """Record what the commit has, and what it could not have."""
        if not self._done:
            return
        with transaction.atomic():
            for row in self._done:
                same = TaskNote.objects.filter(pk=row.pk, version=row.version)
                is_same = same.update(committed_at=row.committed_at, replaces=row.replaces, refusal=row.refusal)
                if is_same and row.refusal:
                    log_event(task_id=row.pk, event_type=_REFUSED, detail=f"T{_CHANGED[1:]}", actor=None)


def forget_pushed() -> None:
    """Delete the requests whose texts are in a commit that needs no push any more."""
    pushed = TaskNote.objects.filter(committed_at__isnull=False)
    if pushed.exists():
        with transaction.atomic():
            pushed.delete()
