"""The bodies and answers of tasks: lenient where the older service was, elsewhere errors name the field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from ninja import Schema
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from core.timestamps import parse

_INTEGER = re.compile(r"\s*[+-]?\d{1,19}\s*", re.ASCII)
_SIXTY_FOUR_BITS = 2**63
LONGEST_NAME = 10_000
LONGEST_WORD = 1_000
LONGEST_REPO = 300
MOST_REPOS = 1_000
LONGEST_NOTE = 256 * 1024


def _error(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("lobwife", sentence)


def _text(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise _error("must be text")
    if "\0" in value:
        raise _error("must not contain a NUL character")
    return value


def text_up_to(longest: int) -> Callable[[Any], Any]:
    """Return a validator for text of at most so many characters."""

    def check(value: Any) -> Any:
        text = _text(value)
        if len(text) > longest:
            raise _error(f"must be at most {longest} characters long")
        return text

    return check


def _name(value: Any) -> Any:
    if not isinstance(value, str):
        raise _error("must be text")
    return text_up_to(LONGEST_NAME)(value.strip())


def _integer(value: Any) -> Any:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -_SIXTY_FOUR_BITS <= value < _SIXTY_FOUR_BITS:
        raise _error("must be a whole number")
    return value


def _estimate(value: Any) -> Any:
    """Take what the older service's column took: a number, or any text, which SQLite stores as it is."""
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return value
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        return text_up_to(LONGEST_WORD)(value)
    return _integer(value)


def _time(value: Any) -> Any:
    if parse(_text(value)) is None:
        raise _error("must be an ISO 8601 time such as 2026-02-16T12:00:00Z")
    return _text(value)


def repo_list(value: Any) -> Any:
    """Return a list of strings from what callers send: a list, a string, or a string with the JSON of a list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _error("must be a list of repository names") from None
    if isinstance(value, str):
        value = [value] if value.strip() else []
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise _error("must be a list of repository names")
    if len(value) > MOST_REPOS or any(len(item) > LONGEST_REPO for item in value):
        raise _error(f"must be at most {MOST_REPOS} names of at most {LONGEST_REPO} characters")
    return value


Text = Annotated[str, BeforeValidator(_text)]  # as long as the body may be: details, workflows
Word = Annotated[str, BeforeValidator(text_up_to(LONGEST_WORD))]
Name = Annotated[str, BeforeValidator(_name)]
Integer = Annotated[int, BeforeValidator(_integer)]
Estimate = Annotated[
    int | float | str,
    BeforeValidator(_estimate),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]
Time = Annotated[str, BeforeValidator(_time)]
Repos = Annotated[
    list[str],
    BeforeValidator(repo_list),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}),
]
NoteBody = Annotated[str, BeforeValidator(text_up_to(LONGEST_NOTE))]
Boolean = Annotated[bool, BeforeValidator(bool)]


class Body(BaseModel):
    """A body of which unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")


class TaskFields(Body):
    """The fields that both creation and change take."""

    model: Word | None = None
    assigned_to: Word | None = None
    repos: Repos | None = None
    discord_thread_id: Word | None = None
    estimate_minutes: Estimate | None = None
    requires_qa: Boolean = False
    workflow: Text | None = None
    actor: Word | None = None


class NewTask(TaskFields):
    """The body of `POST /api/v1/tasks`."""

    model_config = ConfigDict(json_schema_extra={"required": ["name"]})

    name: Name | None = None
    slug: Word | None = None
    body: NoteBody | None = None
    type: Word = "swe"
    status: Word = "queued"
    priority: Word = "normal"


class TaskChanges(TaskFields):
    """The body of `PATCH /api/v1/tasks/{id}`; only what is sent changes."""

    name: Name = ""
    type: Word = ""
    status: Word = ""
    priority: Word = ""
    assigned_at: Time | None = None
    completed_at: Time | None = None
    broker_repos: Repos | None = None
    broker_status: Word | None = None
    token_count: Integer = 0
    broker_registered_at: Time | None = None


class NewEvent(Body):
    """The body of `POST /api/v1/tasks/{id}/events`."""

    model_config = ConfigDict(json_schema_extra={"required": ["event_type"]})

    event_type: Word | None = None
    detail: Text | None = None
    actor: Word | None = None


class TaskListItem(Schema):
    """A task in a list."""

    id: int
    task_id: str
    name: str
    slug: str | None
    type: str
    status: str
    priority: str
    model: str | None
    assigned_to: str | None
    repos: list[str] | None
    discord_thread_id: str | None
    estimate_minutes: int | float | None
    requires_qa: bool | None
    workflow: str | None
    created_at: str | None
    updated_at: str | None
    queued_at: str | None
    assigned_at: str | None
    completed_at: str | None


class LinkShown(Schema):
    """A link of a task."""

    id: int
    kind: str
    url: str
    added_at: str


class ResultShown(Schema):
    """The result of a task."""

    summary: str
    data: dict[str, Any] | None
    written_at: str


class TaskDetail(TaskListItem):
    """One task with its broker fields."""

    broker_repos: str | None = Field(description="JSON text of a list, or null")
    broker_status: str | None
    token_count: int | None
    broker_registered_at: str | None
    links: list[LinkShown]
    result: ResultShown | None


class TaskCounts(Schema):
    """The number of tasks, in all and by status."""

    total: int
    by_status: dict[str, int]


class TaskCreated(Schema):
    id: int
    task_id: str


class TaskUpdated(TaskCreated):
    updated: list[str]


class TaskCancelled(TaskCreated):
    status: str


class EventListItem(Schema):
    id: int
    task_id: int
    event_type: str
    detail: str | None
    actor: str | None
    created_at: str | None


class EventLogged(Schema):
    status: str
    task_id: str
