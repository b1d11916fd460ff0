"""The NinjaAPI: it mounts every app's router, maps the project's errors, and describes both in OpenAPI."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

from django.db.utils import DatabaseError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

import access.api
import access.event_stream
import broker.api
import jobs.api
import ops.health
import ops.metrics
import tasks.api
import tasks.costs.api
import tasks.questions.api
import tasks.results.api
import vaultsync.api
from access.idempotency import HEADER
from access.roles import RULES, entry_of
from core.errors import LobwifeError
from core.rest import parameters
from lobwife import __version__, api_texts
from lobwife.error_responses import database_error, lobwife_error

_PROBLEM = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_IDEMPOTENCY = parameters(HEADER, place="header")
_BEARER = {"type": "http", "scheme": "bearer", "description": "An API key, or a Kubernetes token for `lobwife`."}


class DescribedAPI(NinjaAPI):
    """A NinjaAPI whose OpenAPI says for each operation which roles may call it, and how it may be refused."""

    def get_openapi_schema(self, *arguments: Any, **options: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(*arguments, **options)
        for path, operations in schema["paths"].items():
            route = path.lstrip("/").replace("{", "<").replace("}", ">")
            for method, operation in operations.items():
                _describe_access(operation, entry_of(method.upper(), route))
        schema.setdefault("components", {}).setdefault("securitySchemes", {})["bearer"] = _BEARER
        api_texts.describe(schema)
        return schema


def _describe_access(operation: dict[str, Any], entry: str) -> None:
    rule = RULES.get(entry)
    if rule is None or rule.everyone:
        return
    roles = sorted(rule.roles)
    refusals = {
        401: "The credential is missing or wrong.",
        403: f"Not for this caller: the route is for the roles {', '.join(roles)}.",
        429: "Too many wrong credentials, writes, or tokens asked for.",
        503: "The database or the cluster can't be asked now.",
    }
    if rule.keeps_answer and entry.startswith("POST "):
        operation["parameters"] = [*operation.get("parameters", []), *copy.deepcopy(_IDEMPOTENCY)]
        refusals |= {400: "The request or its key can't be read.", 422: "The key was used for another request."}
    body = operation["responses"].get(404, _PROBLEM)["content"]  # three old routes have errors of their own shape
    for status, description in refusals.items():
        operation["responses"].setdefault(status, {"description": description, "content": copy.deepcopy(body)})
    named = ", ".join(f"`{role}`" for role in roles)
    operation["description"] = f"{operation.get('description', '')}\n\n**Roles:** {named}".strip()
    operation["security"] = [{"bearer": []}]
    operation["x-roles"] = roles


api = DescribedAPI(
    title="lobwife",
    version=__version__,
    description=api_texts.INTRODUCTION,
    docs_url="/api/docs",
    openapi_url="/api/openapi.json",
    urls_namespace="api",
)


def _call_view(run: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Call views without ninja's parsing: they read requests and make responses themselves.

    What they are called with are texts of the path. It is a tenth of the time of a read.
    """
    view = run.__self__.view_func  # type: ignore[attr-defined]

    @functools.wraps(run)
    def call(request: HttpRequest, **path_parameters: str) -> HttpResponseBase:
        try:
            response: HttpResponseBase = view(request, **path_parameters)
        except Exception as error:
            return api.on_exception(request, error)
        return response

    return call


api.add_decorator(_call_view, mode="view")
api.add_router("", ops.health.router)
api.add_router("", ops.metrics.router)
api.add_router("/api", jobs.api.router)
api.add_router("/api/v1", jobs.api.v1)
api.add_router("/api", access.event_stream.router)
api.add_router("/api", access.api.router)  # before the tasks, whose ids are any text
api.add_router("/api", tasks.api.router)
api.add_router("/api", tasks.results.api.router)
api.add_router("/api", tasks.questions.api.router)
api.add_router("/api", tasks.costs.api.router)
api.add_router("/api", broker.api.router)
api.add_router("/api", vaultsync.api.router)

api.exception_handler(LobwifeError)(lobwife_error)
api.exception_handler(DatabaseError)(database_error)
