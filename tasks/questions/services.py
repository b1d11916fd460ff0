"""The writes to questions: asking, answering, and handing the answer to whoever holds the task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from core.callers import Caller, Role
from core.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from core.timestamps import utc_now
from tasks import queries as task_queries
from tasks.events import FeedEvent
from tasks.models import OVER
from tasks.questions import queries
from tasks.questions.models import Question
from tasks.services import log_event

LONGEST_TEXT = 4_000
_MOST_QUESTIONS = 100  # of a task: its note has them all
# A heartbeat whose response is lost is sent again soon: that one has the answer too.
_DELIVERED_AGAIN = timedelta(seconds=60)
_LONGEST_QUOTED = 100


def ask(*, task_id: int, text: str, choices: Sequence[str], actor: str | None, caller: Caller) -> tuple[Question, bool]:
    """Ask a question about a task; return it, and whether it is new: one that is open already is not asked twice.

    Raises NotFound, TooLarge, and Conflict for a task that is over or has enough open questions.
    """
    with transaction.atomic():
        status = task_queries.task_status(task_id)
        if status is None:
            raise NotFound(f"Task T{task_id} not found")
        if status in OVER:
            raise Conflict(f"Task T{task_id} is {status}: nobody answers a question about a task that is over")
        open_ones = list(Question.objects.open().filter(task_id=task_id))
        for question in open_ones:
            if question.text == text and question.choices == list(choices):
                return question, False
        if Question.objects.filter(task_id=task_id).count() >= _MOST_QUESTIONS:
            raise TooLarge(f"task T{task_id} has {_MOST_QUESTIONS} questions, the most that a task may have")
        if len(open_ones) >= settings.OPEN_QUESTIONS:
            raise Conflict(
                f"task T{task_id} has {len(open_ones)} open questions, the most that it may have"
                " (LOBWIFE_OPEN_QUESTIONS): wait for an answer"
            )
        question = Question.objects.create(
            task_id=task_id,
            text=text,
            choices=list(choices),
            asked_by=_who(actor, caller),
            asked_at=utc_now(),
            asking_identity=caller.name,
        )
        fields = {"question_id": question.pk, "question": text, "choices": list(choices)}
        tells = FeedEvent("question.asked", {**fields, "asked_by": question.asked_by})
        detail = f"Question {question.pk}: {text}"
        log_event(task_id=task_id, event_type="question_asked", detail=detail, actor=actor, caller=caller, tells=tells)
    return question, True


def answer_question(*, question_id: int, answer: str, actor: str | None, caller: Caller | None) -> Question:
    """Answer a question; the same answer again changes nothing.

    An answer that is one of the choices but for its case becomes that. Raises Invalid, NotFound, Forbidden for a
    service that answers itself, and Conflict for a question that is answered otherwise or withdrawn.
    """
    question = queries.get_question(question_id)
    if caller is not None and caller.role is Role.SERVICE and caller.name == question.asking_identity:
        raise Forbidden(f"{caller.name} asked question {question_id}: somebody else is to answer it")
    answer = _as_chosen(answer.strip(), question.choices)
    if not answer:
        raise Invalid("answer is required")
    if len(answer) > LONGEST_TEXT:
        raise Invalid(f"answer must be at most {LONGEST_TEXT} characters long")
    by = _who(actor, caller)
    with transaction.atomic():
        now = utc_now()
        is_first = Question.objects.open().filter(pk=question_id).update(answer=answer, answered_by=by, answered_at=now)
        question = queries.get_question(question_id)
        if is_first:
            fields = {"question_id": question_id, "answer": answer, "answered_by": by}
            log_event(
                task_id=question.task_id,
                event_type="question_answered",
                detail=f"Answer to question {question_id}: {answer}",
                actor=actor,
                caller=caller,
                tells=FeedEvent("question.answered", fields),
            )
    if question.answered_at is None:
        raise Conflict(f"question {question_id} was withdrawn: task T{question.task_id} ended before it was answered")
    if question.answer != answer:
        raise Conflict(
            f"question {question_id} was answered by {question.answered_by} already, at"
            f" {question.answered_at:%H:%M} UTC on {question.answered_at:%Y-%m-%d}: {_quoted(question.answer or '')}"
        )
    return question


def take_answers(task_id: int) -> list[Question]:
    """Return the answers for the holder of a task, the oldest first: those of the last minute come once more."""
    now = utc_now()
    if not queries.has_undelivered(task_id, now - _DELIVERED_AGAIN):
        return []
    due = Q(delivered_at__isnull=True) | Q(delivered_at__gt=now - _DELIVERED_AGAIN)
    answered = list(Question.objects.filter(due, task_id=task_id, answered_at__isnull=False).order_by("id"))
    new = [question.pk for question in answered if question.delivered_at is None]
    if new:
        with transaction.atomic():
            Question.objects.filter(pk__in=new).update(delivered_at=now)
    return answered


def _as_chosen(answer: str, choices: Sequence[str]) -> str:
    return next((choice for choice in choices if choice.casefold() == answer.casefold()), answer)


def _who(actor: str | None, caller: Caller | None) -> str:
    """Return the name that a body claims and, in brackets, who was identified, where that is somebody else."""
    identity = caller.name if caller is not None else ""
    if not actor or actor == identity:
        return identity or "somebody"
    return f"{actor} ({identity})" if identity else actor


def _quoted(text: str) -> str:
    return f"“{text}”" if len(text) <= _LONGEST_QUOTED else f"“{text[:_LONGEST_QUOTED]}…”"
