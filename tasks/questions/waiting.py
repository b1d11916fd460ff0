"""Calls that wait for an answer: readers of the feed, which wait without a thread, a connection or a lock."""

from __future__ import annotations

import time
from functools import partial

from django.db import close_old_connections, connection
from django.http import HttpRequest

from core.callers import caller_of
from core.rest import is_gone
from events.readers import Reader, Wanted, readers
from tasks.questions import queries
from tasks.questions.models import Question

LONGEST_WAIT = 60
_LOOK_SECONDS = 15.0


def wait_for_answer(request: HttpRequest, question: Question, seconds: int) -> Question:
    """Return the question once it is answered or withdrawn, at the latest after so many seconds.

    Raises TooManyRequests when too many wait already.
    """
    if not question.is_open or not seconds:
        return question
    deadline = time.monotonic() + seconds
    caller = caller_of(request)
    credential = request.META.get("HTTP_AUTHORIZATION") or request.META.get("HTTP_COOKIE") or caller.address
    is_admitted = request.is_admitted  # type: ignore[attr-defined]
    wanted = Wanted(task=question.task_id)  # its end withdraws the question
    reader = Reader(wanted, caller.identity or caller.address, credential, is_admitted, partial(is_gone, request))
    readers().enter(reader)
    try:
        while True:
            question = queries.get_question(question.pk)  # what came before it entered too
            left = deadline - time.monotonic()
            if not question.is_open or left <= 0 or reader.is_over or is_gone(request):
                return question
            if not connection.in_atomic_block:
                close_old_connections()  # the connection goes back before anything waits
            reader.wait(min(left, _LOOK_SECONDS))
    finally:
        readers().leave(reader)
