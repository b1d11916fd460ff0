"""Definitions by name in a YAML file, which may be of jobs, of webhooks, or of both."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import BaseModel

from core.errors import Invalid
from core.rest import validate

DefinedT = TypeVar("DefinedT", bound=BaseModel)
_KEYS = {"jobs", "webhooks"}


def read_definitions(text: str, *, key: str, schema: type[DefinedT]) -> dict[str, DefinedT]:
    """Return what the file defines under one of its keys; raises Invalid with a sentence that names what is wrong."""
    noun = key.removesuffix("s")
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise Invalid(f"the file is not YAML{where}") from None
    definitions = data.get(key) if isinstance(data, dict) else None
    if not isinstance(definitions, dict) or set(data) - _KEYS:
        raise Invalid(f"the file must hold the key {key}, with the definitions by name")
    read: dict[str, DefinedT] = {}
    for name, fields in definitions.items():
        if not isinstance(name, str):
            raise Invalid(f"{noun} {name!r}: a name must be a text: put it in quotes")
        if not isinstance(fields, dict):
            raise Invalid(f"{noun} {name}: must be a mapping of fields")
        try:
            read[name] = validate(schema, fields)
        except Invalid as error:
            raise Invalid(f"{noun} {name}: {error}") from None
    return read
