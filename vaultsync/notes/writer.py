"""Tasks become notes: adopted, spliced, moved. What can't be read safely is reported and left alone.

The notes are those of a commit, and what they become are changes to its tree: the working copy is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from core.text import escape_markdown
from tasks.models import Task
from vaultsync.git.command import SYMLINK, Entry, Git
from vaultsync.git.files import Blocked, Files, blob_id, conflict_name
from vaultsync.git.merge import Changes, id_at
from vaultsync.models import Kind, NoteProblem, NoteRecord
from vaultsync.notes.claims import BOTH_CHANGED, claim_of, take_over
from vaultsync.notes.frontmatter import Document, Value, format_key, parse, splice
from vaultsync.notes.layout import (
    OVERVIEW,
    OWNED,
    SYSTEM,
    SYSTEM_ACTIVE,
    TASK_FOLDERS,
    is_copy_beside,
    is_safe_slug,
    note_path,
    note_values,
    task_of_note,
    task_of_path,
)
from vaultsync.notes.merge import copy_beside
from vaultsync.notes.texts import TextRequests
from vaultsync.notes.yaml_keys import Unsafe

_BATCH = 500
_FEW = 100  # tasks whose notes are looked up one by one
_HEADING = 300
_PENDING = "*The content of this task is pending.*"
_COPIES = ("", "-2", "-3")


@dataclass(frozen=True)
class NoteSource:
    """The commits that the writer reads: the one to change, and those in which edits of our keys are seen.

    `base` is what others had when they edited, `head` what the working copy had: its edits are in `edited_here`.
    """

    commit: str | None
    base: str | None = None
    head: str | None = None
    edited_here: frozenset[str] = frozenset()


@dataclass
class NoteWriter:
    """Brings notes in line with their tasks; `changes` are what is to be done to the commit's tree."""

    git: Git
    files: Files
    source: NoteSource
    dry_run: bool = False
    changes: Changes = field(default_factory=dict)
    records: list[NoteRecord] = field(default_factory=list)
    problems: list[NoteProblem] = field(default_factory=list)
    texts: TextRequests = field(default_factory=TextRequests)
    readable: list[str] = field(default_factory=list)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _contents: dict[str, bytes] = field(default_factory=dict)
    _bases: dict[str, Entry] = field(default_factory=dict)
    _moved: dict[int, str] | None = None
    _is_loaded: bool = False

    def write_all(self, on_progress: Callable[[int, int], None]) -> None:
        """Compare every note with its task; notes of tasks that don't exist are reported and left alone."""
        ids = list(Task.objects.order_by("pk").values_list("pk", flat=True))
        self.write(ids, on_progress)
        existing = set(ids)
        if len(ids) <= _FEW:
            self._load(None)
        for path in sorted(self._entries):
            task = task_of_path(path)
            if task is not None and task not in existing:
                self._unreadable(path, f"there is no task T{task}")

    def write(self, ids: Iterable[int], on_progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """See that each of these tasks has its note, and that it says what the row says."""
        ordered = sorted(set(ids))
        if len(ordered) > _FEW:
            self._load(None)
        for start in range(0, len(ordered), _BATCH):
            part = ordered[start : start + _BATCH]
            tasks = list(Task.objects.filter(pk__in=part).order_by("pk"))
            records = NoteRecord.objects.in_bulk(part)
            self.texts.load(part)
            if len(ordered) <= _FEW:
                self._load(tasks)
            places = {task: self._places(task) for task in tasks}
            stale = [task for task in tasks if not self._is_current(task, records.get(task.pk), places[task])]
            self._read(path for task in stale for path in (*places[task], *self._adoptable(task)))
            for task in stale:
                self._write_note(task, records.get(task.pk), places[task])
            on_progress(min(start + _BATCH, len(ordered)), len(ordered))

    # --- reading the commit
    def _load(self, tasks: Sequence[Task] | None) -> None:
        """Read what lies in the tasks' folders: everything, or the paths that concern some tasks."""
        paths = [f"{folder}/" for folder in TASK_FOLDERS]
        if tasks is not None:
            names = [
                f"{task.task_id}{ending}.md" for task in tasks for ending in ("", *(f".conflict{n}" for n in _COPIES))
            ]
            names += [f"{task.slug}.md" for task in tasks if is_safe_slug(task.slug)]
            paths = [f"{folder}/{name}" for folder in TASK_FOLDERS for name in names]
        self._entries = self.git.entries(self.source.commit, [*paths, OVERVIEW])
        self._is_loaded = True
        base, head = self.source.base, self.source.head
        self._bases = dict(self._entries) if base == self.source.commit else self.git.entries(base, paths)
        if self.source.edited_here:
            here = self.git.entries(head, paths)
            self._bases |= {path: entry for path, entry in here.items() if path in self.source.edited_here}

    def _read(self, paths: Iterable[str]) -> None:
        entries = [entry for path in paths for entry in (self._entries.get(path), self._bases.get(path)) if entry]
        self._contents = self.git.blobs(blob for mode, blob in entries if mode.startswith("100"))

    def _places(self, task: Task) -> list[str]:
        return [path for folder in TASK_FOLDERS if (path := f"{folder}/{task.task_id}.md") in self._entries]

    def _adoptable(self, task: Task) -> list[str]:
        """Return where a note lies under the task's slug, as it was named before tasks had numbers."""
        if not is_safe_slug(task.slug):
            return []
        return [path for folder in TASK_FOLDERS if (path := f"{folder}/{task.slug}.md") in self._entries]

    def _is_current(self, task: Task, record: NoteRecord | None, places: Sequence[str]) -> bool:
        """Return True for a note that is as we last wrote it, of a row that says what it said then."""
        if self.texts.is_waiting(task):
            return False
        if record is None or places != [note_path(task)] or self._entries[places[0]][1] != record.blob:
            return False
        if self._adoptable(task):
            return False
        values = note_values(task)
        if record.written.get("status") == SYSTEM_ACTIVE and task.status == "active":
            values["status"] = SYSTEM_ACTIVE
        if record.written != values:
            return False
        self.readable += places
        return True

    def _content(self, path: str) -> bytes:
        mode, blob = self._entries[path]
        if mode == SYMLINK:
            raise Blocked("it is a symlink")
        if blob not in self._contents:
            self._contents |= self.git.blobs([blob] if mode.startswith("100") else [])
        if blob not in self._contents:
            raise Blocked("it is not a regular file")
        return self._contents[blob]

    def overview_entry(self) -> Entry:
        """Return the overview's mode and blob; empty where there is none."""
        if not self._is_loaded:
            self._load([])
        return self._entries.get(OVERVIEW, ("", ""))

    # --- one note
    def _write_note(self, task: Task, record: NoteRecord | None, places: list[str]) -> None:
        path = places[0] if places else note_path(task)
        try:
            path = self._only_place(task, record, places)
            before = self._content(path) if path else None
            text = before.decode() if before else self._lost(task, record)
            values = note_values(task)
            is_new = text is None
            if text is None:
                text = self._new(task, values)
            else:
                document = parse(text)
                if before:
                    values = self._judged(task, document, path, values)
                text = splice(text, values, OWNED)
            text = self.texts.apply(task, text, is_new=is_new)
            self._put(task, record, path, before, text.encode(), values)
        except (Blocked, Unsafe) as error:
            self._unreadable(path or note_path(task), str(error))
        except UnicodeDecodeError:
            self._unreadable(path or note_path(task), "it is not UTF-8 text")

    def _judged(self, task: Task, document: Document, path: str, values: dict[str, Value]) -> dict[str, Value]:
        """Return the values to write, once edits of our keys in the note are taken over or reported."""
        base = self._base(path)
        if task.type == SYSTEM:
            changes, sentence = claim_of(task, base, document)
            if changes and not self.dry_run:
                sentence = sentence if take_over(task, changes) else BOTH_CHANGED
                task.refresh_from_db()
                values = note_values(task)
            if sentence:
                self.problems.append(NoteProblem.new(path, Kind.DRIFT, sentence))
            if document.value("status") == SYSTEM_ACTIVE and task.status == "active":
                values["status"] = SYSTEM_ACTIVE
        elif base is not None:
            edited = [
                key
                for key in OWNED
                if key in values and document.value(key) not in (None, base.value(key), _as_read(values[key]))
            ]
            if edited:
                sentence = f"{', '.join(edited)} was edited here; the database decides, and was put back"
                self.problems.append(NoteProblem.new(path, Kind.DRIFT, sentence))
        return values

    def _base(self, path: str) -> Document | None:
        """Return the note as it was before others edited it."""
        entry = self._bases.get(path)
        content = self._contents.get(entry[1]) if entry else None
        try:
            return parse(content.decode()) if content else None
        except (Unsafe, UnicodeDecodeError):
            return None

    def _put(
        self,
        task: Task,
        record: NoteRecord | None,
        path: str,
        before: bytes | None,
        after: bytes,
        values: dict[str, Value],
    ) -> None:
        target = note_path(task)
        self.readable += [target, path]
        if before != after or path != target:
            self.files.check_folder(target)
            self.changes[target] = after
            if path and path != target:
                self.changes[path] = None
        if path.rpartition("/")[0] != target.rpartition("/")[0]:
            self._move_copies(task, target)
        blob = blob_id(after, self.files.null_id)
        written = NoteRecord(task_id=task.pk, path=target, blob=blob, written=values)
        if record is None or (record.path, record.blob, record.written) != (target, blob, values):
            self.records.append(written)

    def _move_copies(self, task: Task, target: str) -> None:
        """Move what lies beside a note along with it."""
        folder = target.rpartition("/")[0]
        for path, entry in self._entries.items():
            name = path.rpartition("/")[2]
            moved = f"{folder}/{name}"
            if name.startswith(f"{task.task_id}.conflict") and path != moved and moved not in self._entries:
                self.changes |= {path: None, moved: entry}

    # --- the place of a note
    def _only_place(self, task: Task, record: NoteRecord | None, places: list[str]) -> str:
        """Return where the task's note is, an empty string when there is none; one that lies twice becomes one."""
        adopted = self._adopted(task)
        if adopted and (not places or all(self._is_untouched(path) for path in places)):
            self.changes |= dict.fromkeys(places)
            return adopted
        if adopted:
            sentence = f"{task.task_id} has a note of its own; what is in this one is not the task's"
            self.problems.append(NoteProblem.new(adopted, Kind.CONFLICT, sentence))
        if not places:
            return self._moved_to(task, record)
        if len(places) == 1:
            return places[0]
        preferred = (note_path(task), record.path if record else "")
        kept = next((path for path in preferred if path in places), places[0])
        content = self._content(kept)
        for path in places:
            if path == kept:
                continue
            other = self._content(path)
            if not _holds(content, other):
                beside = copy_beside(note_path(task), other)
                name = conflict_name(note_path(task), blob_id(beside, self.files.null_id), self._id_at)
                self.changes[name] = beside
                self.problems.append(NoteProblem.new(kept, Kind.CONFLICT, f"there was a second note; it is in {name}"))
            self.changes[path] = None
        return kept

    def _adopted(self, task: Task) -> str:
        """Return the note of a task under its slug; a file that is no task's note is somebody's own."""
        for path in self._adoptable(task):
            try:
                document = parse(self._content(path).decode())
            except (Unsafe, UnicodeDecodeError, Blocked):
                continue
            is_note = document.value("name") is not None or document.value("status") is not None
            owner = document.value("id")
            if is_note and owner in (None, task.task_id, task.slug) and path not in self.changes:
                return path
        return ""

    def _is_untouched(self, path: str) -> bool:
        """Return True for a note that holds nothing but what we wrote into a new one."""
        document = parse(self._content(path).decode())
        return (
            not document.others(OWNED)
            and document.body.rstrip().endswith(_PENDING)
            and len(document.body.split("\n")) < 6
        )

    def _moved_to(self, task: Task, record: NoteRecord | None) -> str:
        """Return where people put a note that is not in its place: it is known by its id."""
        if record is None:
            return ""
        if self._moved is None:
            every = self.git.entries(self.source.commit, recursive=True)
            candidates = {
                path: entry
                for path, entry in every.items()
                if path.endswith(".md") and path != OVERVIEW and entry[0].startswith("100")
                if task_of_path(path) is None and not is_copy_beside(path)
            }
            self._moved = {}
            paths = list(candidates)
            for start in range(0, len(paths), _BATCH):
                part = paths[start : start + _BATCH]
                contents = self.git.blobs(candidates[path][1] for path in part)
                for path in part:
                    number = task_of_note(contents.get(candidates[path][1], b""))
                    if number is not None and number not in self._moved:
                        self._moved[number] = path
                        self._entries[path] = candidates[path]
        return self._moved.get(task.pk, "")

    def _id_at(self, path: str) -> str | None:
        return id_at(path, self.changes, self._entries, self.files.null_id)

    # --- contents
    def _lost(self, task: Task, record: NoteRecord | None) -> str | None:
        """Return the last content of a note that is gone; None when there never was one."""
        if record is None or self.source.commit is None:
            return None
        paths = [f"{folder}/{task.task_id}.md" for folder in TASK_FOLDERS]
        blobs = self.git.last_blobs(self.source.commit, paths)
        blob = next(iter(blobs.values()), record.blob)
        content = self.git.blobs([blob]).get(blob)
        return content.decode() if content else None

    def _new(self, task: Task, values: dict[str, Value]) -> str:
        heading = escape_markdown(" ".join(task.name.split())[:_HEADING])
        front = "".join(format_key(key, values[key], "\n") for key in OWNED if key in values)
        return f"---\n{front}---\n\n# {heading}\n\n{_PENDING}\n"

    def _unreadable(self, path: str, sentence: str) -> None:
        self.problems.append(NoteProblem.new(path, Kind.UNREADABLE, sentence))


def _holds(content: bytes, other: bytes) -> bool:
    """Return True when nothing that people wrote in `other` is missing in `content`."""
    try:
        first, second = parse(content.decode()), parse(splice(other.decode(), {}, OWNED))
        lines = parse(splice(content.decode(), {}, OWNED)).lines
    except (Unsafe, UnicodeDecodeError):
        return content == other
    return all(line in lines for line in second.lines if line.strip()) and second.body.strip() in (
        "",
        first.body.strip(),
    )


def _as_read(value: Value) -> str | list[str]:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, list) else str(value)
