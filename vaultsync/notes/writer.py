"""Tasks become notes: found, made, spliced, moved. What can't be read safely is reported and left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import frontmatter
from frontmatter.default_handlers import YAMLHandler

from core.text import escape_markdown
from tasks.models import Task
from vaultsync import services
from vaultsync.git.command import Git
from vaultsync.git.files import Blocked, Files, blob_id, free_conflict_name
from vaultsync.models import Kind, NoteProblem, NoteRecord
from vaultsync.notes.claims import BOTH_CHANGED, Judgement, claim_of, take_over
from vaultsync.notes.frontmatter import Document, Value, format_key, parse, splice
from vaultsync.notes.layout import OWNED, SYSTEM, TASK_FOLDERS, is_safe_slug, note_path, note_values
from vaultsync.notes.yaml_keys import Unsafe

_BATCH = 500
_HEADING = 300


@dataclass
class _Plan:
    """The planned change of one task's note."""

    task: Task
    values: dict[str, Value]
    found: str  # where the note lies; empty when there is none
    before: bytes | None
    after: bytes
    target: str


class _OwnedKeys(YAMLHandler):
    """Writes the keys of a new note: one plain line each, in the order of the contract."""

    def export(self, metadata: Mapping[str, Any], **kwargs: object) -> str:
        return "".join(format_key(key, metadata[key], "\n") for key in OWNED if key in metadata).rstrip("\n")


@dataclass
class NoteWriter:
    """Brings notes in line with their tasks and remembers which paths it touched."""

    git: Git
    files: Files
    checkpoint: Callable[[str], None]
    dry_run: bool = False
    touched: set[str] = field(default_factory=set)
    records: list[NoteRecord] = field(default_factory=list)
    problems: list[NoteProblem] = field(default_factory=list)
    readable: list[str] = field(default_factory=list)
    adopted: set[str] = field(default_factory=set)

    def write(self, ids: Iterable[int], where: Callable[[Task], Sequence[str]] | None = None) -> None:
        """See that each of these tasks has its note, and that it says what the row says.

        `where` tells which of a task's possible paths exist, for a caller that has listed them.
        """
        ordered = sorted(set(ids))
        for start in range(0, len(ordered), _BATCH):
            part = ordered[start : start + _BATCH]
            tasks = list(Task.objects.filter(pk__in=part).order_by("pk"))
            known = NoteRecord.objects.in_bulk([task.pk for task in tasks])
            plans = [self._planned(task, known.get(task.pk), (where or self._present)(task)) for task in tasks]
            self._carry_out([plan for plan in plans if plan], known)

    def _planned(self, task: Task, record: NoteRecord | None, present: Sequence[str]) -> _Plan | None:
        path = present[0] if present else note_path(task)
        try:
            if len(present) > 1:
                path = self._one_of(task, record, present)
            elif not present:
                path = self._adopted(task) or ""
            return self._plan(task, record, path)
        except (Blocked, Unsafe) as error:
            self._unreadable(path, str(error))
        except UnicodeDecodeError:
            self._unreadable(path, "it is not UTF-8 text")
        return None

    def _plan(self, task: Task, record: NoteRecord | None, path: str) -> _Plan:
        before = self.files.read(path) if path else None
        text = self._restored(record) if not before else before.decode()
        values = note_values(task)
        if text is None:
            text = self._new(task, values)
        else:
            document = parse(text)
            if before:
                values = self._judged(task, record, document, path, values)
            text = splice(text, values, OWNED)
        return _Plan(task, values, path, before, text.encode(), note_path(task))

    def _judged(
        self, task: Task, record: NoteRecord | None, document: Document, path: str, values: dict[str, Value]
    ) -> dict[str, Value]:
        """The values to write, once edits of our keys in the note are taken over or reported."""
        if task.type == SYSTEM:
            judged: Judgement = claim_of(task, record, document)
            if judged.changes and not self.dry_run:
                if not take_over(task, judged.changes):
                    judged = Judgement(sentence=BOTH_CHANGED)
                task.refresh_from_db()
                values = note_values(task)
            if judged.sentence:
                self.problems.append(NoteProblem.new(path, Kind.DRIFT, judged.sentence))
            if judged.shown_status and task.status == "active":
                values["status"] = judged.shown_status
            return values
        if record and record.intended is None:
            edited = [
                key
                for key in record.written
                if key in values
                and document.value(key) not in (None, _as_read(record.written[key]), _as_read(values[key]))
            ]
            if edited:
                said = f"{', '.join(edited)} was edited here; the database decides, and was put back"
                self.problems.append(NoteProblem.new(path, Kind.DRIFT, said))
        return values

    def _carry_out(self, plans: Sequence[_Plan], known: dict[int, NoteRecord]) -> None:
        changed = []
        for plan in plans:
            record = known.get(plan.task.pk)
            differs = plan.before != plan.after or plan.found != plan.target
            if differs or record is None or record.intended is not None or record.written != plan.values:
                changed.append((plan, record, differs))
            self.readable += [plan.target, plan.found]
        if self.dry_run:
            self.touched.update(plan.target for plan, _, differs in changed if differs)
            return
        self._note_intentions(changed)
        for plan, _, differs in changed:
            blob = blob_id(plan.after, self.files.null_id)
            if differs:
                try:
                    self._place(plan)
                except Blocked as error:
                    self._unreadable(plan.target, str(error))
                    continue
            self.records.append(
                NoteRecord(task_id=plan.task.pk, path=plan.target, blob=blob, written=plan.values, intended=None)
            )

    def _note_intentions(self, changed: Sequence[tuple[_Plan, NoteRecord | None, bool]]) -> None:
        """Before a system task's note is written: else a kill right after would make our write look like a claim."""
        rows = []
        for plan, record, differs in changed:
            if differs and plan.task.type == SYSTEM:
                row = record or NoteRecord(task_id=plan.task.pk, path=plan.target, blob="", written=plan.values)
                row.intended = plan.values
                rows.append(row)
        services.save_records(records=rows)
        if rows:
            self.checkpoint("intended")

    def _place(self, plan: _Plan) -> None:
        if plan.found and plan.found != plan.target:
            self.files.move(plan.found, plan.target)
            self.touched.add(plan.found)
            self.checkpoint("moved")
        if plan.before != plan.after:
            self.files.write(plan.target, plan.after)
        self.touched.add(plan.target)
        self.checkpoint("written")

    # --- finding
    def _present(self, task: Task) -> list[str]:
        paths = [f"{folder}/{task.task_id}.md" for folder in TASK_FOLDERS]
        return [path for path in paths if self.files.kind(path)]

    def _adopted(self, task: Task) -> str | None:
        """The note of a task under its slug, as it was named before tasks had numbers."""
        if not is_safe_slug(task.slug):
            return None
        for folder in TASK_FOLDERS:
            path = f"{folder}/{task.slug}.md"
            if self.files.kind(path) == "file":
                try:
                    owner = parse(self.files.read(path).decode()).value("id")
                except (Unsafe, UnicodeDecodeError, Blocked):
                    owner = None
                if owner not in (None, task.task_id, task.slug) or path in self.adopted:
                    return None
                self.adopted.add(path)  # of several tasks with this slug one gets it, and will have moved it
                return path
        return None

    def _one_of(self, task: Task, record: NoteRecord | None, present: Sequence[str]) -> str:
        """Of a task's several notes the one to keep; bodies that differ are put beside it."""
        preferred = (note_path(task), record.path if record else "")
        kept = next((path for path in preferred if path in present), present[0])
        body = parse(self.files.read(kept).decode()).body
        for path in present:
            if path == kept:
                continue
            content = self.files.read(path)
            same = self._body_is_same(content, body)
            if self.dry_run:
                continue
            if not same:
                beside = free_conflict_name(self.files, kept, content)
                self.files.write(beside, content)
                self.touched.add(beside)
                sentence = f"there was a second note; it is in {beside}"
                self.problems.append(NoteProblem.new(kept, Kind.CONFLICT, sentence))
            self.files.remove(path)
            self.touched.add(path)
            self.checkpoint("deduplicated")
        return kept

    def _body_is_same(self, content: bytes, body: str) -> bool:
        try:
            return parse(content.decode()).body.strip() in ("", body.strip())
        except (Unsafe, UnicodeDecodeError):
            return False

    # --- contents
    def _restored(self, record: NoteRecord | None) -> str | None:
        """Return what was last written into a note that is gone; None when that is not known."""
        content = self.git.blobs([record.blob]).get(record.blob) if record and record.blob else None
        return content.decode() if content else None

    def _new(self, task: Task, values: dict[str, Value]) -> str:
        heading = escape_markdown(" ".join(task.name.split())[:_HEADING])
        body = f"# {heading}\n\n*The content of this task is pending.*"
        return f"{frontmatter.dumps(frontmatter.Post(body, handler=_OwnedKeys(), **values))}\n"

    def _unreadable(self, path: str, sentence: str) -> None:
        self.problems.append(NoteProblem.new(path, Kind.UNREADABLE, sentence))


def _as_read(value: Value) -> str | list[str]:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, list) else str(value)
