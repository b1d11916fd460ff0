"""The API's description: what the gate may answer on each route, and the credentials that it takes."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from access.roles import RULES, entry_of

_PROBLEM = {"content": {"application/json": {"schema": {"type": "object"}}}}
_BEARER = {"type": "http", "scheme": "bearer", "description": "An API key, or a Kubernetes token for `lobwife`."}


class GuardedAPI(NinjaAPI):
    """A NinjaAPI whose description says for each operation which roles may take it."""

    def get_openapi_schema(self, *arguments: Any, **options: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(*arguments, **options)
        for path, operations in schema["paths"].items():
            route = path.lstrip("/").replace("{", "<").replace("}", ">")
            for method, operation in operations.items():
                _describe(operation, entry_of(method.upper(), route))
        schema.setdefault("components", {}).setdefault("securitySchemes", {})["bearer"] = _BEARER
        return schema


def _describe(operation: dict[str, Any], entry: str) -> None:
    rule = RULES.get(entry)
    if rule is None or rule.everyone:
        return
    roles = ", ".join(sorted(rule.roles))
    responses = operation["responses"]
    answers = {401: "Nobody knows who calls.", 403: f"Not for this caller: the route is for the roles {roles}."}
    answers |= {429: "Too many wrong credentials, or too many tokens asked for."}
    answers |= {503: "The database or the cluster can't be asked now."}
    for status, description in answers.items():
        responses.setdefault(status, {"description": description, **_PROBLEM})
    operation["security"] = [{"bearer": []}]
    operation["x-roles"] = sorted(rule.roles)
