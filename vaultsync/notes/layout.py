"""The folders of a vault, the path of each note, and the keys of a note (contract, "A task file")."""

from __future__ import annotations

import re
from collections.abc import Collection

from core.frontmatter import Unsafe, Value, parse_bytes
from core.timestamps import whole_seconds
from tasks.ids import parse_task_id
from tasks.models import Question, Status, Task
from tasks.questions.queries import questions_by_task
from tasks.results.queries import link_urls, summaries

TASKS = "010-tasks"
OVERVIEW = f"{TASKS}/_overview.md"
_ACTIVE, _COMPLETED, _FAILED = TASK_FOLDERS = tuple(f"{TASKS}/{name}" for name in ("active", "completed", "failed"))
_FOLDERS: dict[str, str] = {Status.COMPLETED: _COMPLETED, Status.FAILED: _FAILED, Status.CANCELLED: _FAILED}
OWNED = (
    *("id", "name", "type", "status", "created", "priority", "assigned_to", "assigned_at", "completed_at", "model"),
    *("estimate_minutes", "workflow", "discord_thread_id", "slug", "repos", "requires_qa"),
)
# Of other keys, which the contract leaves to people, those are ours that the task has: task_links, task_result, and
# two for each of its questions, with its number behind.
_RESULT_CHARACTERS = 500
QUESTION, ANSWER = "question_", "answer_"
NOTE_BYTES = 2**20  # a larger file is not read as a note
TOO_LARGE = "it is larger than 1 MiB"
SYSTEM = "system"
SYSTEM_ACTIVE = "system-active"
CLAIMED = ("status", "assigned_to", "assigned_at", "completed_at")
_NOTE = re.compile(rf"{TASKS}/(?:active|completed|failed)/(T[1-9]\d*)\.md", re.ASCII)
_SLUG = re.compile(r"(?!T\d+\Z)\w[\w.-]{0,150}")
_TEXTS = ("assigned_to", "assigned_at", "completed_at", "model", "workflow", "discord_thread_id", "slug")


def note_path(task: Task) -> str:
    """Return the path of a task's note; a status that is none of the six counts as active."""
    return f"{_FOLDERS.get(task.status, _ACTIVE)}/{task.task_id}.md"


def task_of_path(path: str) -> int | None:
    """Return the id of the task whose note belongs at this path; None for a number that the database can't hold."""
    match = _NOTE.fullmatch(path)
    return parse_task_id(match[1]) if match else None


def task_of_note(content: bytes) -> int | None:
    """Return the id of the task that a note names in its frontmatter, whatever the file is called."""
    try:
        number = parse_bytes(content).value("id")
    except Unsafe:
        return None
    return parse_task_id(number) if isinstance(number, str) else None


def is_copy_beside(path: str) -> bool:
    """Return True for the name of a version that lies beside a file since it could not be merged."""
    return ".conflict" in path.rpartition("/")[2]


def is_safe_slug(slug: object) -> bool:
    """Return True when a slug can be a file's name."""
    return isinstance(slug, str) and bool(_SLUG.fullmatch(slug))


def note_values(task: Task, written: object = None) -> dict[str, Value]:
    """Return the database's keys of a note; a field that is not set has none.

    `written` is the status that the note has: an agent's `system-active` stays while the task is active.
    """
    values: dict[str, Value] = {
        "id": task.task_id,
        "name": str(task.name),
        "type": str(task.type),
        "status": SYSTEM_ACTIVE if written == SYSTEM_ACTIVE and task.status == Status.ACTIVE else str(task.status),
        "created": whole_seconds(task.created_at) or str(task.created_at),
        "priority": str(task.priority),
    }
    values |= {name: str(text) for name in _TEXTS if (text := getattr(task, name)) not in (None, "")}
    minutes: object = task.estimate_minutes
    if isinstance(minutes, int) and not isinstance(minutes, bool):
        values["estimate_minutes"] = minutes
    if repos := task.repo_list:
        values["repos"] = repos
    if task.requires_qa in (True, 1):
        values["requires_qa"] = True
    return values


def result_values(task_ids: Collection[int]) -> dict[int, dict[str, Value]]:
    """Return the keys of what came of these tasks, by task: the addresses of their links, and the summary in a line.

    Then their questions, each with its answer, which is empty until somebody fills it in.
    """
    values: dict[int, dict[str, Value]] = {}
    for task_id, urls in link_urls(task_ids).items():
        values[task_id] = {"task_links": urls}
    for task_id, summary in summaries(task_ids).items():
        line = " ".join(summary.split())
        values.setdefault(task_id, {})["task_result"] = line[:_RESULT_CHARACTERS]
    for task_id, questions in questions_by_task(task_ids).items():
        for question in questions:
            values.setdefault(task_id, {}).update(question_values(question))
    return values


def question_values(question: Question) -> dict[str, Value]:
    """Return the two keys of a question; the choices are named behind its text."""
    choices = f" ({' / '.join(question.choices)})" if question.choices else ""
    line, answer = (" ".join(text.split()) for text in (question.text, question.answer or ""))
    text = f"{_shortened(line)}{choices[:_RESULT_CHARACTERS]}"
    return {f"{QUESTION}{question.pk}": text, f"{ANSWER}{question.pk}": _shortened(answer)}


def _shortened(line: str) -> str:
    return line if len(line) <= _RESULT_CHARACTERS else f"{line[:_RESULT_CHARACTERS]}…"
