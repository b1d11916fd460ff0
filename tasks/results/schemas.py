"""The bodies and answers of links and results."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
from ninja import Schema
from pydantic import BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

from tasks.results.models import LinkKind
from tasks.schemas import Body, Word, text_up_to

_LONGEST_URL, _LONGEST_SUMMARY, _MOST_DATA_BYTES = 2_000, 10_000, 64 * 1024
_SPACE_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


def _url(value: Any) -> str:
    text = str(text_up_to(_LONGEST_URL)(value)).strip()
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or _SPACE_OR_CONTROL.search(text):
        raise PydanticCustomError("lobwife", "must be an http or https URL")
    if "@" in parts.netloc:
        raise PydanticCustomError("lobwife", "must have no user name or password: everybody who reads the task sees it")
    return text


def _kind(value: Any) -> str:
    if value not in LinkKind.values:
        raise PydanticCustomError("lobwife", f"must be one of {', '.join(LinkKind.values)}")
    return str(value)


def _summary(value: Any) -> str:
    text = str(text_up_to(_LONGEST_SUMMARY)(value)).strip()
    if not text:
        raise PydanticCustomError("lobwife", "is required")
    return text


def _data(value: Any) -> Any:
    if value is not None and not isinstance(value, dict):
        raise PydanticCustomError("lobwife", "must be an object")
    if len(orjson.dumps(value)) > _MOST_DATA_BYTES:
        raise PydanticCustomError("lobwife", f"must be at most {_MOST_DATA_BYTES // 1024} KiB of JSON")
    return value


class NewLink(Body):
    """The body of `POST /api/v1/tasks/{id}/links`."""

    model_config = ConfigDict(json_schema_extra={"required": ["url"]})

    kind: Annotated[str, BeforeValidator(_kind), WithJsonSchema({"enum": LinkKind.values})] = LinkKind.OTHER
    url: Annotated[str, BeforeValidator(_url)]
    actor: Word | None = None


class NewResult(Body):
    """The body of `POST /api/v1/tasks/{id}/result`."""

    summary: Annotated[str, BeforeValidator(_summary)]
    data: Annotated[dict[str, Any] | None, BeforeValidator(_data)] = None
    actor: Word | None = None


class LinkAdded(Schema):
    id: int
    task_id: str
    kind: str
    url: str


class ResultWritten(Schema):
    status: str
    task_id: str
