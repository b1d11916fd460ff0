"""Reading of REST requests and writing of their JSON responses."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

import orjson
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from ninja import Schema
from pydantic import BaseModel, Field, ValidationError

from core.errors import Invalid, TooLarge
from core.timestamps import parse

JSON = "application/json; charset=utf-8"
_DEEPEST = 32
BodyT = TypeVar("BodyT", bound=BaseModel)
DefaultT = TypeVar("DefaultT")
_WHOLE = re.compile(r"\d+", re.ASCII)
_LARGEST = 10**18
# pydantic's words, as they go on after a field's name.
_WORDING = {
    "Input should": "must",
    "Field required": "is required",
    "Extra inputs are not permitted": "is not a known field",
}


class Problem(Schema):
    """The body of every error: one sentence that says what to do."""

    error: str
    code: str | None = Field(
        None,
        description="Names the case for programs, of a lease that is over: lease_released, lease_expired,"
        " lease_cancelled or lease_taken_away.",
    )


def is_api(path: str) -> bool:
    """Return whether the path is of the API, and not of a page."""
    return path.startswith("/api/") or path in {"/api", "/health", "/metrics", "/mcp"} or path.startswith("/health/")


def json_response(data: Any, status: int = 200) -> HttpResponse:
    """Return the data as one line of JSON."""
    return HttpResponse(orjson.dumps(data), status=status, content_type=JSON)


def json_body(request: HttpRequest, *, or_empty: bool = False) -> dict[str, Any]:
    """Return the JSON object of the body, whatever its Content-Type; raises Invalid, or TooLarge above 1 MiB.

    With `or_empty`, a missing body is an empty object.
    """
    try:
        data = orjson.loads(request.body or b"{}") if or_empty else orjson.loads(request.body)
    except RequestDataTooBig:
        raise TooLarge("the body is larger than 1 MiB") from None
    except (orjson.JSONDecodeError, UnreadablePostError):
        raise Invalid("invalid JSON") from None
    if not isinstance(data, dict):
        raise Invalid("invalid JSON")
    check_depth(data, request.body)
    return data


def check_depth(data: Any, body: bytes) -> None:
    """Raise Invalid for more than 32 levels. Counting brackets is enough for almost all bodies."""
    if body.count(b"[") + body.count(b"{") <= _DEEPEST:
        return
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise Invalid(f"the JSON is nested deeper than {_DEEPEST} levels")
        parts = [part.values() if isinstance(part, dict) else part for part in level]
        level = [child for part in parts for child in part if isinstance(child, dict | list)]


def validate(schema: type[BodyT], data: dict[str, Any]) -> BodyT:
    """Validate the data; raises Invalid with a sentence that names the first wrong field."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        reason = first["msg"]
        for words, ours in _WORDING.items():
            reason = reason.replace(words, ours, 1)
        raise Invalid(f"{field} {reason}") from None


def request_body(schema: type[BaseModel], example: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return OpenAPI's `requestBody` of a body that the view reads itself."""
    json_schema = schema.model_json_schema()
    content: dict[str, Any] = {"schema": _without_references(json_schema, json_schema.pop("$defs", {}))}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def parameters(
    *names: str, place: Literal["query", "header"] = "query", **schemas: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return OpenAPI's description of parameters that the view reads itself: texts, or what their schemas say."""
    described = {**{name: {"type": "string"} for name in names}, **schemas}
    return [{"in": place, "name": name, "schema": schema} for name, schema in described.items()]


def link_next(request: HttpRequest, response: HttpResponse, **changes: str | int) -> None:
    """Put the address of the next page into the header `Link`: this one's, with some parameters changed."""
    query = request.GET.copy()
    for name, value in changes.items():
        query[name] = str(value)
    response["Link"] = f'<{request.path}?{query.urlencode()}>; rel="next"'


def is_gone(request: HttpRequest) -> bool:
    """Return whether the client has hung up."""
    connection = request.META.get("gunicorn.socket")
    if connection is None:
        return False
    try:
        own: socket.socket = getattr(connection, "_sock", connection)  # gevent's would wait for the next request
        return own.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _without_references(part: Any, definitions: dict[str, Any]) -> Any:
    """Return the schema with each `$ref` replaced by the definition."""
    if isinstance(part, dict):
        if "$ref" in part:
            return _without_references(definitions[part["$ref"].rpartition("/")[2]], definitions)
        return {name: _without_references(value, definitions) for name, value in part.items()}
    return [_without_references(item, definitions) for item in part] if isinstance(part, list) else part


def query_parameter(request: HttpRequest, name: str) -> str | None:
    """Return a query parameter: the first, if repeated; None, if empty."""
    values = request.GET.getlist(name)
    return values[0] or None if values else None


def time_parameter(request: HttpRequest, name: str) -> datetime | None:
    """Return a query parameter that is an ISO 8601 time, in UTC; None, if empty. Raises Invalid."""
    raw = query_parameter(request, name)
    if raw is None:
        return None
    moment = parse(raw)
    if moment is None:
        raise Invalid(f"{name} must be an ISO 8601 time such as 2026-02-16T12:00:00Z")
    return moment


def choice_parameter(request: HttpRequest, name: str, choices: Sequence[str]) -> str:
    """Return a query parameter that is one of some words, the first if it is empty; raises Invalid."""
    raw = query_parameter(request, name) or choices[0]
    if raw not in choices:
        raise Invalid(f"{name} must be {' or '.join(choices)}")
    return raw


def integer_parameter(request: HttpRequest, name: str, default: DefaultT) -> int | DefaultT:
    """Return a query parameter that is a whole number, 0 or more, or the default; raises Invalid."""
    raw = query_parameter(request, name)
    if raw is None:
        return default
    if not _WHOLE.fullmatch(raw):
        raise Invalid(f"{name} must be a whole number, 0 or more")
    return int(raw) if len(raw) < 19 else _LARGEST
