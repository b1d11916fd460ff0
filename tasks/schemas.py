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

from core.database.backend import is_postgres
from core.timestamps import parse
from tasks.ids import LARGEST_ID, parse_typed_id

_INTEGER = re.compile(r"\s*[+-]?\d{1,19}\s*", re.ASCII)
_FRACTION = re.compile(r"\s*[+-]?\d{1,15}\.\d{1,15}\s*", re.ASCII)
_SIXTY_FOUR_BITS = 2**63
LONGEST_NAME = 10_000
LONGEST_WORD = 1_000
LONGEST_REPO = 300
MOST_REPOS = 1_000
MOST_TYPES = 50
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
    """Take what the older service's column took: a number, or any text, which SQLite stores as it is.

    A column of PostgreSQL has whole numbers alone: there a fraction is rounded up, and another text is no estimate.
    """
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        text = text_up_to(LONGEST_WORD)(value)
        if not is_postgres():
            return text
        if not _FRACTION.fullmatch(text):
            return None
        value = float(text)
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return math.ceil(value) if is_postgres() else value
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


def _words(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or len(names) > MOST_TYPES:
        raise _error(f"must be a list of at most {MOST_TYPES} texts")
    return [text_up_to(LONGEST_WORD)(name) for name in names]


Text = Annotated[str, BeforeValidator(_text)]  # as long as the body may be: details, workflows
Word = Annotated[str, BeforeValidator(text_up_to(LONGEST_WORD))]
Name = Annotated[str, BeforeValidator(_name)]
Integer = Annotated[int, BeforeValidator(_integer)]
Estimate = Annotated[
    int | float | str | None,
    BeforeValidator(_estimate),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]
Time = Annotated[str, BeforeValidator(_time)]
Words = Annotated[list[str], BeforeValidator(_words)]
Repos = Annotated[
    list[str],
    BeforeValidator(repo_list),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}),
]
NoteBody = Annotated[str, BeforeValidator(text_up_to(LONGEST_NOTE))]
Boolean = Annotated[bool, BeforeValidator(bool)]


def _task_number(value: Any) -> Any:
    number = parse_typed_id(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= LARGEST_ID:
        raise _error("must be the id of a task, such as 42 or T42")
    return number


TaskNumber = Annotated[
    int,
    BeforeValidator(_task_number),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[Tt]?[0-9]+$"}]}),
]


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
    depends_on: list[TaskNumber] | None = Field(None, description="Tasks that must be completed before.")
    parent: TaskNumber | None = Field(None, description="The task that this one is a part of.")
    group: Word | None = Field(None, description="Of tasks with the same group only one is active at a time.")
    not_before: Time | None = Field(None, description="Nobody may claim it earlier.")


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


class NewClaim(Body):
    """The body of `POST /api/v1/tasks/claim`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "types": ["swe"],
                "repos": ["org/app"],
                "runner": "box-3/1",
                "lease_seconds": 900,
                "wait_seconds": 30,
            }
        }
    )

    types: Words | None = Field(None, description="Only tasks of these types.")
    repos: Repos | None = Field(None, description="Only tasks all of whose repositories are among these.")
    runner: Word = Field("", description="What the caller calls itself.")
    lease_seconds: Annotated[int, Field(ge=1, le=86_400), BeforeValidator(_integer)] = 900
    wait_seconds: Annotated[int, Field(ge=0, le=60), BeforeValidator(_integer)] = 0


class NewHeartbeat(Body):
    """The body of `POST /api/v1/tasks/{id}/heartbeat`."""

    model_config = ConfigDict(json_schema_extra={"example": {"fence": 7, "progress": "tests run"}})

    fence: Integer
    progress: Word | None = None


class NewRelease(Body):
    """The body of `POST /api/v1/tasks/{id}/release`."""

    model_config = ConfigDict(json_schema_extra={"example": {"fence": 7, "outcome": "completed", "reason": "merged"}})

    fence: Integer
    outcome: Word = Field(description="completed, failed, queued or blocked")
    reason: Annotated[str, BeforeValidator(text_up_to(LONGEST_NAME))] | None = None


_LEASE_END = Field(description="When the lease ends unless it is renewed, UTC.")


class Lease(Schema):
    model_config = ConfigDict(json_schema_extra={"example": {"fence": 7, "expires_at": "2026-02-16T12:15:00Z"}})

    fence: int
    expires_at: str = _LEASE_END


class LeaseMessage(Schema):
    """Something that the holder of a task is told with a heartbeat; there may come other kinds than answers."""

    kind: str
    question_id: int
    question: str
    answer: str
    answered_by: str


class HeartbeatAnswer(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "expires_at": "2026-02-16T12:15:00Z",
                "stop": False,
                "reason": None,
                "messages": [
                    {
                        "kind": "answer",
                        "question_id": 12,
                        "question": "May I delete the table sessions_old?",
                        "answer": "Approve",
                        "answered_by": "anna",
                    }
                ],
            }
        }
    )

    expires_at: str = _LEASE_END
    stop: bool
    reason: str | None
    messages: list[LeaseMessage] = Field(description="What the holder is told: answers to its questions.")


class ReleaseAnswer(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 42,
                "task_id": "T42",
                "fence": 7,
                "outcome": "completed",
                "released_at": "2026-02-16T12:10:00Z",
            }
        }
    )

    id: int
    task_id: str
    fence: int
    outcome: str
    released_at: str


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
    """One task with its broker fields; what has a default only of a task that has relations, or had a lease."""

    broker_repos: str | None = Field(description="JSON text of a list, or null")
    broker_status: str | None
    token_count: int | None
    broker_registered_at: str | None
    links: list[LinkShown]
    result: ResultShown | None
    depends_on: list[int] | None = None
    parent: int | None = None
    group: str | None = None
    not_before: str | None = None
    attempt: int | None = Field(None, description="How many leases there were.")
    lease: Lease | None = Field(None, description="null while nobody holds the task")


class ClaimedTask(TaskDetail):
    """A task that was claimed, with its lease and the key that is good for as long as that."""

    body: str | None = Field(
        description="The text of its note, Markdown.",
        json_schema_extra={"example": "# Fix the flaky login tests\n\nThey fail once in ten runs."},
    )
    attempt: int
    lease: Lease
    key: str = Field(
        description="The API key of the lease: it is answered here and nowhere else.",
        json_schema_extra={"example": "lw_1f0c2a9e_…"},
    )


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
