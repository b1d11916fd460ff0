"""Tasks become notes: adopted, spliced, moved. What can't be read safely is reported and left alone.

The notes are those of a commit, and what they become are changes to its tree: the working copy is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from core.frontmatter import Document, Unsafe, Value, as_read, decode, format_key, parse, parse_bytes, splice
from core.git.command import IDENTITY, SYMLINK, Changes, Entry, Git
from core.text import one_line
from core.timestamps import utc_now
from tasks.ids import near
from tasks.models import Task
from tasks.notes import heading
from vaultsync.git.files import Blocked, Files
from vaultsync.git.merge import last_versions, put_beside
from vaultsync.models import Kind, NoteRecord, Problems
from vaultsync.notes.answers import filled_in
from vaultsync.notes.answers import take_over as take_over_answers
from vaultsync.notes.claims import BOTH_CHANGED, claim_of, take_over
from vaultsync.notes.layout import (
    ANSWER,
    NOTE_BYTES,
    OVERVIEW,
    OWNED,
    SYSTEM,
    TASK_FOLDERS,
    TOO_LARGE,
    is_copy_beside,
    is_safe_slug,
    note_path,
    note_values,
    result_values,
    task_of_note,
    task_of_path,
)
from vaultsync.notes.merge import copy_beside
from vaultsync.notes.overview import overview_text, without_time
from vaultsync.notes.texts import TextRequests

_BATCH = 500
_LONGEST_AUTHOR = 100
_FEW = 2000  # tasks whose notes are picked out of their folders
_PENDING = "*The content of this task is pending.*"
_COPIES = (".conflict", ".conflict-2", ".conflict-3")


@dataclass
class NoteWriter:
    """Brings the notes of a commit in line with their tasks; `changes` are what is to be done to its tree.

    Edits of our keys are seen in comparison with `base`, what others had when they edited, and with `head`, what the
    working copy had: its edits are `edited_here`. `seen` are the paths that were looked at: problems with them that are
    not among `problems` are over.
    """

    git: Git
    files: Files
    commit: str | None
    base: str | None
    head: str | None = None
    edited_here: Collection[str] = ()
    dry_run: bool = False
    changes: Changes = field(default_factory=dict)
    records: list[tuple[int, str, str, dict[str, Value]]] = field(default_factory=list)  # the fields of NoteRecord
    problems: Problems = field(default_factory=Problems)
    texts: TextRequests = field(default_factory=TextRequests)
    seen: set[str] = field(default_factory=set)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _places: dict[str, list[str]] = field(default_factory=dict)  # in the tasks' folders, by the name of the file
    _bases: dict[str, Entry] = field(default_factory=dict)
    _contents: dict[str, bytes] = field(default_factory=dict)
    _results: dict[int, dict[str, Value]] = field(default_factory=dict)
    _moved: dict[int, str] | None = None
    _versions: dict[int, str] | None = None

    def write(self, ids: Collection[int] | None, on_progress: Callable[[int, int], None]) -> None:
        """See that each of these tasks, or every task, has its note, and that it says what the row says.

        With every task, notes of tasks that don't exist are reported and left alone.
        """
        ordered = sorted(Task.objects.values_list("pk", flat=True) if ids is None else ids)
        self._load(ordered if ids is not None and len(ids) <= _FEW else None)
        for start in range(0, len(ordered), _BATCH):
            part = ordered[start : start + _BATCH]
            wanted = set(part)
            records = {record.task_id: record for record in NoteRecord.objects.filter(near("pk", part))}
            self.texts.load(part)
            self._results = result_values(part)
            stale = [
                task
                for task in Task.objects.filter(near("pk", part)).order_by("pk")
                if task.pk in wanted and not self._is_current(task, records.get(task.pk))
            ]
            for few, contents in self.git.batches(stale, self._blobs_of, NOTE_BYTES):
                self._contents = contents
                for task in few:
                    self._write_note(task, records.get(task.pk))
            on_progress(min(start + _BATCH, len(ordered)), len(ordered))
        if ids is None:
            existing = set(ordered)
            for path in sorted(self._entries):
                if (task_id := task_of_path(path)) and task_id not in existing:
                    self.problems.add(path, f"there is no task T{task_id}", Kind.UNREADABLE)

    def write_overview(self) -> None:
        """Write the overview when something changed; its time alone is no reason."""
        entry, text = self._entries.get(OVERVIEW), overview_text(utc_now())
        if entry and not entry.is_file:
            self.problems.add(OVERVIEW, "it is not a regular file", Kind.UNREADABLE)
            return
        before = self.git.blobs([entry.id]).get(entry.id) if entry and not self.changes else None
        if before is None or without_time(before.decode(errors="replace")) != without_time(text):
            self.changes[OVERVIEW] = text.encode()

    # --- reading the commit
    def _load(self, ids: Sequence[int] | None) -> None:
        """Read what lies in the tasks' folders: everything, or what concerns some tasks."""
        names = [""]
        if ids is not None:
            slugs = Task.objects.filter(pk__in=ids).values_list("slug", flat=True)
            names = [f"{slug}.md" for slug in slugs if is_safe_slug(slug)]
            names += [f"T{task}{ending}.md" for task in ids for ending in ("", *_COPIES)]
        paths = [OVERVIEW, *(f"{folder}/{name}" for folder in TASK_FOLDERS for name in names)]
        self._entries = self.git.entries(self.commit, paths)
        for path in self._entries:
            folder, _, name = path.rpartition("/")
            if folder in TASK_FOLDERS:
                self._places.setdefault(name, []).append(path)
        self._bases = self._entries_of(self.base)
        here = self._entries_of(self.head) if self.edited_here else {}
        self._bases |= {path: here[path] for path in self.edited_here if path in here}

    def _entries_of(self, commit: str | None) -> dict[str, Entry]:
        """Return the entries as they are in another commit; its difference is read faster than its tree."""
        entries = dict(self._entries)
        for path, old, _ in self.git.diff(commit, self.commit):
            entries.pop(path, None)
            entries |= {path: old} if old else {}
        return entries

    def _blobs_of(self, task: Task) -> list[str]:
        paths = (*self._in_folders(task.task_id), *self._adoptable(task))
        entries = [entries[path] for path in paths for entries in (self._entries, self._bases) if path in entries]
        return [entry.id for entry in entries if entry.is_file]

    def _in_folders(self, name: str) -> list[str]:
        return self._places.get(f"{name}.md", [])

    def _adoptable(self, task: Task) -> list[str]:
        """Return where a note lies under the task's slug, as it was named before tasks had numbers."""
        return self._in_folders(str(task.slug)) if is_safe_slug(task.slug) else []

    def _is_current(self, task: Task, record: NoteRecord | None) -> bool:
        """Return True for a note that is as we last wrote it, of a row that says what it said then."""
        path, places = note_path(task), self._in_folders(task.task_id)
        self.seen.update([path, *places])
        if self.texts.is_waiting(task):
            return False
        if record is None or places != [path] or self._entries[path].id != record.blob or self._adoptable(task):
            return False
        return bool(record.written == self._values(task, record.written.get("status")))

    def _values(self, task: Task, written: object = None) -> dict[str, Value]:
        """Return the database's keys of a task's note, those of its links and result among them."""
        return note_values(task, written) | self._results.get(task.pk, {})

    def _text(self, path: str) -> str:
        entry = self._entries[path]
        if not entry.is_file:
            raise Blocked("it is a symlink" if entry.mode == SYMLINK else "it is not a regular file")
        content = self._contents.get(entry.id) or self._blob(entry.id)
        if content is None:
            raise Blocked("its content is missing from the repository")
        return decode(content)

    def _blob(self, blob: str) -> bytes | None:
        """Return what a note held; None when that is missing from the repository."""
        if self.git.sizes([blob]).get(blob, 0) > NOTE_BYTES:
            raise Blocked(TOO_LARGE)
        return self.git.blobs([blob]).get(blob)

    # --- one note
    def _write_note(self, task: Task, record: NoteRecord | None) -> None:
        places = self._in_folders(task.task_id)
        path = places[0] if places else note_path(task)
        try:
            path = self._only_place(task, record, places)
            before = self._text(path) if path else ""
            text = before or self._lost(task, record)
            values = self._judged(task, parse(before), path) if before else self._values(task)
            after = splice(text, values, [*OWNED, *self._results.get(task.pk, ())]) if text else _new_note(task, values)
            after = self.texts.apply(task, after, is_new=not text)
            target, content = note_path(task), after.encode()
            self.seen.add(path)
            if after != before or path != target:
                self.files.check(target)
                self._put(task, path, target, content)
            blob = self.git.blob_id(content)
            if record is None or (record.path, record.blob, record.written) != (target, blob, values):
                self.records.append((task.pk, target, blob, values))
        except (Blocked, Unsafe) as error:
            self.problems.add(path or note_path(task), str(error), Kind.UNREADABLE)

    def _put(self, task: Task, path: str, target: str, content: bytes) -> None:
        """Have a note at `target` instead of `path`; what lies beside it moves along."""
        self.changes[target] = content
        if path in ("", target):
            return
        self.changes[path] = None
        folder, old_folder = (place.rpartition("/")[0] for place in (target, path))
        for ending in _COPIES if folder != old_folder else ():
            beside, moved = (f"{place}/{task.task_id}{ending}.md" for place in (old_folder, folder))
            if beside in self._entries and moved not in self._entries:
                self.changes |= {beside: None, moved: self._entries[beside]}

    def _judged(self, task: Task, document: Document, path: str) -> dict[str, Value]:
        """Return the values to write, once edits of our keys in the note are taken over or reported."""
        base, sentence = self._base(path), ""
        ours = self._results.get(task.pk, {})
        answers = filled_in(document, ours)
        refused = take_over_answers(answers, ours, lambda: self._author(path)) if not self.dry_run else []
        taken_over = {f"{ANSWER}{number}" for number in answers}.difference(refused)
        if task.type == SYSTEM:
            changes, sentence = claim_of(task, base, document)
            if changes and not self.dry_run:
                sentence = sentence if take_over(task, changes) else BOTH_CHANGED
                task.refresh_from_db()
        values = self._values(task, document.value("status") if task.type == SYSTEM else None)
        if task.type != SYSTEM and base is not None:
            expected = {key: (None, base.value(key), as_read(value)) for key, value in values.items()}
            edited = [key for key in values if key not in taken_over and document.value(key) not in expected[key]]
            sentence = f"{', '.join(edited)} was edited here; the database decides, and was put back" if edited else ""
        if sentence:
            self.problems.add(path, sentence, Kind.DRIFT)
        return values

    def _author(self, path: str) -> str:
        """Return who wrote the note last; an empty string for an edit of the working copy."""
        name = self.git.text("log", "-1", "--format=%an", self.commit or "HEAD", "--", path).strip()
        return "" if name == IDENTITY["name"] else one_line(name)[:_LONGEST_AUTHOR]

    def _base(self, path: str) -> Document | None:
        """Return the note as it was before others edited it."""
        entry = self._bases.get(path)
        try:
            return parse_bytes(self._contents[entry.id]) if entry and self._contents.get(entry.id) else None
        except Unsafe:
            return None

    # --- the place of a note
    def _only_place(self, task: Task, record: NoteRecord | None, places: list[str]) -> str:
        """Return where the task's note is, an empty string when there is none; one that lies twice becomes one."""
        adopted = self._adopted(task)
        if adopted and all(self._is_untouched(path) for path in places):
            self.changes |= dict.fromkeys(places)
            return adopted
        if adopted:
            sentence = f"{task.task_id} has a note of its own; what is in this one is not the task's"
            self.problems.add(adopted, sentence, Kind.CONFLICT)
        if not places:
            return self._moved_to(task) if record else ""
        preferred = (note_path(task), record.path if record else "")
        kept = next((path for path in preferred if path in places), places[0])
        for path in places:
            if path != kept:
                other = self._text(path)
                if not _holds(self._text(kept), other):
                    beside = copy_beside(note_path(task), other.encode())
                    name = put_beside(self.git, note_path(task), beside, self.changes, self._entries)
                    sentence = f"there was a second note; it is in {name}"
                    self.problems.add(kept, sentence, Kind.CONFLICT)
                self.changes[path] = None
        return kept

    def _adopted(self, task: Task) -> str:
        """Return the note of a task under its slug; a file that is no task's note is somebody's own."""
        for path in self._adoptable(task):
            try:
                document = parse(self._text(path))
            except (Unsafe, Blocked):
                continue
            is_note = document.value("name") is not None or document.value("status") is not None
            if is_note and document.value("id") in (None, task.task_id, task.slug) and path not in self.changes:
                return path
        return ""

    def _is_untouched(self, path: str) -> bool:
        """Return True for a note that holds nothing but what we wrote into a new one."""
        document = parse(self._text(path))
        is_pending = document.body.rstrip().endswith(_PENDING) and document.body.count("\n") < 5
        return is_pending and not document.others(OWNED)

    def _moved_to(self, task: Task) -> str:
        """Return where people put a note that is not in its place: it is known by its id."""
        if self._moved is None:
            every = self.git.entries(self.commit, recursive=True)
            paths = [path for path, entry in every.items() if path.endswith(".md") and entry.is_file]
            paths = [path for path in paths if not is_copy_beside(path) and not task_of_path(path)]
            self._moved = {}
            for part, contents in self.git.batches(paths, lambda path: [every[path].id], NOTE_BYTES):
                for path in part:
                    number = task_of_note(contents.get(every[path].id, b""))
                    if number is not None:
                        self._entries.setdefault(self._moved.setdefault(number, path), every[path])
        return self._moved.get(task.pk, "")

    def _lost(self, task: Task, record: NoteRecord | None) -> str | None:
        """Return the last content of a note that is gone; None when there never was one."""
        if record is None or self.commit is None:
            return None
        if self._versions is None:
            self._versions = last_versions(self.git, self.base, self.commit)
        paths = (f"{folder}/{task.task_id}.md" for folder in TASK_FOLDERS)
        before = next((self._bases[path].id for path in paths if path in self._bases), record.blob)
        return decode(self._blob(self._versions.get(task.pk, before)) or b"") or None


def _new_note(task: Task, values: dict[str, Value]) -> str:
    keys = [*OWNED, *(key for key in values if key not in OWNED)]
    front = "".join(format_key(key, values[key], "\n") for key in keys if key in values)
    return f"---\n{front}---\n\n{heading(task.name)}\n\n{_PENDING}\n"


def _holds(text: str, other: str) -> bool:
    """Return True when nothing that people wrote in `other` is missing in `text`."""
    try:
        first, second = (parse(splice(version, {}, OWNED)) for version in (text, other))
    except Unsafe:
        return text == other
    has_keys = all(line in first.lines for line in second.lines if line.strip())
    return has_keys and second.body.strip() in ("", first.body.strip())
