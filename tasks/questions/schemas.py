"""The bodies and answers of questions."""

from __future__ import annotations

from typing import Annotated, Any

from ninja import Schema
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from tasks.questions.services import LONGEST_TEXT
from tasks.schemas import Body, Word, text_up_to

_MOST_CHOICES, _LONGEST_CHOICE = 10, 200


def _text(value: Any) -> str:
    text = str(text_up_to(LONGEST_TEXT)(value)).strip()
    if not text:
        raise PydanticCustomError("lobwife", "is required")
    return text


def _choices(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MOST_CHOICES:
        raise PydanticCustomError("lobwife", f"must be a list of at most {_MOST_CHOICES} texts")
    texts = [str(text_up_to(_LONGEST_CHOICE)(each)).strip() for each in value]
    if not all(texts) or any("\n" in each or "\r" in each for each in texts):
        raise PydanticCustomError("lobwife", "must be texts of one line each")
    return list(dict.fromkeys(texts))


_ANSWER_TEXT = {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT}
_CHOICES_SCHEMA = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": _LONGEST_CHOICE},
    "maxItems": _MOST_CHOICES,
}


class NewQuestion(Body):
    """The body of `POST /api/v1/tasks/{id}/questions`."""

    model_config = ConfigDict(json_schema_extra={"required": ["text"]})

    text: Annotated[str, BeforeValidator(_text), WithJsonSchema(_ANSWER_TEXT)] = Field(
        description="What a person is asked."
    )
    choices: Annotated[list[str], BeforeValidator(_choices), WithJsonSchema(_CHOICES_SCHEMA)] = Field(
        [], description="Answers to offer as buttons; of an approval Approve and Reject."
    )
    actor: Word | None = None


class NewAnswer(Body):
    """The body of `POST /api/v1/questions/{id}/answer`."""

    model_config = ConfigDict(json_schema_extra={"required": ["answer"]})

    answer: Annotated[str, BeforeValidator(_text), WithJsonSchema(_ANSWER_TEXT)] = Field(
        description="One of the choices, or any other text."
    )
    actor: Word | None = None


class QuestionShown(Schema):
    """A question; `answer` is null while it is open, and for good when it was withdrawn."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 12,
                "task_id": "T42",
                "text": "May I delete the table sessions_old?",
                "choices": ["Approve", "Reject"],
                "state": "answered",
                "asked_by": "lobster-swe-t42 (lease:T42/1)",
                "asked_at": "2026-02-16 12:00:00",
                "answer": "Approve",
                "answered_by": "anna",
                "answered_at": "2026-02-16 12:03:20",
            }
        }
    )

    id: int
    task_id: str
    text: str
    choices: list[str]
    state: str = Field(description="open, answered, or withdrawn: the task ended first.")
    asked_by: str
    asked_at: str = Field(description="UTC.")
    answer: str | None
    answered_by: str | None
    answered_at: str | None = Field(description="UTC.")


class QuestionList(Schema):
    questions: list[QuestionShown]
