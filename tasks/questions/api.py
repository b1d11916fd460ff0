"""REST routes of questions: asking, reading, waiting for an answer, answering."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from core.callers import caller_of
from core.errors import Invalid, NotFound
from core.rest import (
    Problem,
    choice_parameter,
    integer_parameter,
    json_body,
    json_response,
    link_next,
    parameters,
    request_body,
    validate,
)
from tasks.api import check_exists
from tasks.ids import parse_path_id
from tasks.questions import queries, services
from tasks.questions.schemas import NewAnswer, NewQuestion, QuestionList, QuestionShown
from tasks.questions.waiting import LONGEST_WAIT, wait_for_answer

router = Router(tags=["questions"])
_DEFAULT_LIMIT, _LARGEST_LIMIT = 100, 500
_WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
_LIST_PARAMETERS = parameters(
    open={"type": "string", "enum": ["true", "false"], "default": "false"},
    limit={**_WHOLE, "default": _DEFAULT_LIMIT, "maximum": _LARGEST_LIMIT},
    before_id=_WHOLE,
)
_WAIT = parameters(wait_seconds={**_WHOLE, "default": 0, "maximum": LONGEST_WAIT})
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


@router.post(
    "/v1/tasks/{task_id}/questions",
    response={
        **{200: QuestionShown, 201: QuestionShown, 400: Problem, 404: Problem},
        **{409: Problem, 413: Problem, 503: Problem},
    },
    openapi_extra=request_body(NewQuestion),
)
def ask_question(request: HttpRequest, task_id: str) -> HttpResponse:
    """Ask people a question about a task. One that is open already answers 200.

    The answer comes with the next heartbeat, as a message, and to whoever waits for it.
    """
    data, number = json_body(request), parse_path_id(task_id)
    check_exists(number)
    body = validate(NewQuestion, data)
    question, is_new = services.ask(
        task_id=number, text=body.text, choices=body.choices, actor=body.actor, caller=caller_of(request)
    )
    return json_response(queries.question_as_json(question), 201 if is_new else 200)


@router.get(
    "/v1/tasks/{task_id}/questions",
    response={200: QuestionList, 400: Problem, 404: Problem, 503: Problem},
)
def list_questions_of_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """List the questions of a task, the oldest first."""
    number = parse_path_id(task_id)
    check_exists(number)
    return json_response({"questions": [queries.question_as_json(each) for each in queries.questions_of(number)]})


@router.get(
    "/v1/questions",
    response={200: QuestionList, 400: Problem, 503: Problem},
    openapi_extra={"parameters": _LIST_PARAMETERS},
)
def list_questions(request: HttpRequest) -> HttpResponse:
    """List questions, newest first; with `open=true` those that wait for an answer.

    The header `Link` has the address of the next page.
    """
    limit = min(integer_parameter(request, "limit", _DEFAULT_LIMIT), _LARGEST_LIMIT)
    only_open = choice_parameter(request, "open", ("false", "true")) == "true"
    before = integer_parameter(request, "before_id", None)
    questions = queries.question_list(only_open=only_open, limit=limit + 1, before_id=before)
    page = questions[:limit]
    response = json_response({"questions": [queries.question_as_json(each) for each in page]})
    if page and len(questions) > limit:
        link_next(request, response, limit=limit, before_id=page[-1].pk)
    return response


@router.get(
    "/v1/questions/{question_id}",
    response={200: QuestionShown, 400: Problem, 404: Problem, 503: Problem},
    openapi_extra={"parameters": _WAIT},
)
def get_question(request: HttpRequest, question_id: str) -> HttpResponse:
    """Get a question. With `wait_seconds` as soon as it is answered or withdrawn, at the latest after so many."""
    question = queries.get_question(parse_question_id(question_id))
    seconds = integer_parameter(request, "wait_seconds", 0)
    if seconds > LONGEST_WAIT:
        raise Invalid(f"wait_seconds is at most {LONGEST_WAIT}")
    return json_response(queries.question_as_json(wait_for_answer(request, question, seconds)))


@router.post(
    "/v1/questions/{question_id}/answer",
    response={200: QuestionShown, 400: Problem, 404: Problem, 409: Problem, 413: Problem, 503: Problem},
    openapi_extra=request_body(NewAnswer),
)
def answer_question(request: HttpRequest, question_id: str) -> HttpResponse:
    """Answer a question. The same answer again changes nothing; another one is refused."""
    data, number = json_body(request), parse_question_id(question_id)
    queries.get_question(number)
    body = validate(NewAnswer, data)
    question = services.answer_question(
        question_id=number, answer=body.answer, actor=body.actor, caller=caller_of(request)
    )
    return json_response(queries.question_as_json(question))


def parse_question_id(text: str) -> int:
    """Return the number of a question in a path; raises NotFound for what no question can have."""
    if not _NUMBER.fullmatch(text):
        raise NotFound(f"Question {text[:100]} not found")
    return int(text)
