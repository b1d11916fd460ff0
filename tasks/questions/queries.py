"""Reads of questions, and the one write that comes with every task that is over."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import connection

from core.database.statements import read_one, write
from core.errors import NotFound
from core.timestamps import seconds_text
from tasks.ids import near
from tasks.questions.models import Question

LARGEST_ID = 2**63 - 1
# Every page asks it.
_OPEN_COUNT = "SELECT count(*) FROM tasks_question WHERE answered_at IS NULL AND withdrawn_at IS NULL"
# Every heartbeat asks it: 10 microseconds, through the ORM 300.
_UNDELIVERED = """
SELECT 1 FROM tasks_question WHERE task_id = %s AND answered_at IS NOT NULL
AND (delivered_at IS NULL OR delivered_at > %s) LIMIT 1
"""
# While all other writers wait: through the ORM it was a tenth of the work of a claim, a heartbeat and a release.
_WITHDRAW = """
UPDATE tasks_question SET withdrawn_at = %s WHERE task_id = %s AND answered_at IS NULL AND withdrawn_at IS NULL
"""


def get_question(number: int) -> Question:
    """Return a question; raises NotFound."""
    question = Question.objects.filter(pk=number).first() if 0 < number <= LARGEST_ID else None
    if question is None:
        raise NotFound(f"Question {number} not found")
    return question


def questions_of(task_id: int) -> list[Question]:
    """Return the questions of a task, the oldest first."""
    return list(Question.objects.filter(task_id=task_id).order_by("id"))


def questions_by_task(task_ids: Collection[int]) -> dict[int, list[Question]]:
    """Return the questions of these tasks, and maybe of others, the oldest first."""
    questions: dict[int, list[Question]] = {}
    for question in Question.objects.filter(near("task_id", task_ids)).order_by("id"):
        questions.setdefault(question.task_id, []).append(question)
    return questions


def question_list(*, only_open: bool, limit: int, before_id: int | None = None) -> list[Question]:
    """Return questions, newest first."""
    questions = Question.objects.open() if only_open else Question.objects.all()
    if before_id is not None:
        questions = questions.filter(pk__lt=before_id)
    return list(questions[:limit])


def open_count() -> int:
    """Return how many questions wait for an answer."""
    row = read_one(_OPEN_COUNT)
    return int(row[0]) if row is not None else 0


def has_undelivered(task_id: int, since: datetime) -> bool:
    """Return whether there is an answer for the holder of a task that was first delivered after `since`, if at all."""
    return read_one(_UNDELIVERED, (task_id, connection.ops.adapt_datetimefield_value(since))) is not None


def withdraw_open(task_id: int, now: datetime) -> None:
    """Withdraw the open questions of a task that is over, within the transaction of its end."""
    write(_WITHDRAW, (connection.ops.adapt_datetimefield_value(now), task_id))


def question_as_json(question: Question) -> dict[str, Any]:
    """Return a question as REST answers it."""
    return {
        "id": question.pk,
        "task_id": f"T{question.task_id}",
        "text": question.text,
        "choices": question.choices,
        "state": question.state,
        "asked_by": question.asked_by,
        "asked_at": seconds_text(question.asked_at),
        "answer": question.answer,
        "answered_by": question.answered_by or None,
        "answered_at": _seconds(question.answered_at),
    }


def answer_as_message(question: Question) -> dict[str, Any]:
    """Return the answer to a question as a heartbeat carries it."""
    return {
        "kind": "answer",
        "question_id": question.pk,
        "question": question.text,
        "answer": question.answer or "",
        "answered_by": question.answered_by,
    }


def _seconds(moment: datetime | None) -> str | None:
    return seconds_text(moment) if moment is not None else None
