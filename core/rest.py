"""What every REST route needs: bodies that are JSON whatever their Content-Type, answers in one line of JSON."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import orjson
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from ninja import Schema
from pydantic import BaseModel, ValidationError

from core.errors import Invalid, TooLarge

JSON = "application/json; charset=utf-8"
_DEEPEST = 32
BodyT = TypeVar("BodyT", bound=BaseModel)
DefaultT = TypeVar("DefaultT")
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)


class Problem(Schema):
    """Every error: one sentence that says what to do."""

    error: str


def is_api(path: str) -> bool:
    """Whether answers under this path are for programs."""
    return path.startswith("/api/") or path in {"/api", "/health", "/metrics"} or path.startswith("/health/")


def json_response(data: Any, status: int = 200) -> HttpResponse:
    """The data as one line of JSON."""
    return HttpResponse(orjson.dumps(data), status=status, content_type=JSON)


def json_body(request: HttpRequest, *, or_empty: bool = False) -> dict[str, Any]:
    """The body's JSON object, whatever its Content-Type; raises Invalid, or TooLarge above 1 MiB.

    `or_empty`: no body at all is an empty object.
    """
    try:
        data = orjson.loads(request.body or b"{}") if or_empty else orjson.loads(request.body)
    except RequestDataTooBig:
        raise TooLarge("the body is larger than 1 MiB") from None
    except (orjson.JSONDecodeError, UnreadablePostError):
        raise Invalid("invalid JSON") from None
    if not isinstance(data, dict):
        raise Invalid("invalid JSON")
    _check_depth(data, request.body)
    return data


def _check_depth(data: Any, body: bytes) -> None:
    """Raises Invalid for more than 32 levels; a body with few brackets, as almost all are, is not looked at closer."""
    if body.count(b"[") + body.count(b"{") <= _DEEPEST:
        return
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise Invalid(f"the JSON is nested deeper than {_DEEPEST} levels")
        parts = [part.values() if isinstance(part, dict) else part for part in level]
        level = [each for part in parts for each in part if isinstance(each, dict | list)]


def validate(schema: type[BodyT], data: dict[str, Any]) -> BodyT:
    """The data as the schema has it; raises Invalid with a sentence that names the first wrong field."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise Invalid(f"{field} {first['msg']}") from None


def request_body(schema: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a body that the view reads itself."""
    described = schema.model_json_schema()
    content = {"application/json": {"schema": _inlined(described, described.pop("$defs", {}))}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """The schema with each reference to a definition of its own replaced by the definition."""
    if isinstance(part, dict):
        if "$ref" in part:
            return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(each, definitions) for name, each in part.items()}
    return [_inlined(each, definitions) for each in part] if isinstance(part, list) else part


def query_parameter(request: HttpRequest, name: str) -> str | None:
    """A query parameter; of a repeated one the first counts; empty is as if absent."""
    values = request.GET.getlist(name)
    return values[0] or None if values else None


def integer_parameter(request: HttpRequest, name: str, default: DefaultT) -> int | DefaultT:
    """A query parameter that is a whole number, 0 or more; the default where there is none. Raises Invalid."""
    raw = query_parameter(request, name)
    if raw is None:
        return default
    if not _WHOLE.fullmatch(raw):
        raise Invalid(f"{name} must be a whole number, 0 or more")
    return int(raw)
