"""MCP over streamable HTTP: JSON-RPC in a POST, its answer as JSON.

It keeps no sessions and pushes nothing, so that there is no GET and no DELETE. The types of the package `mcp` would
cost each web process 17 MB and most of a second at its start, and its server needs an event loop: the few shapes that
are in use are here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import orjson
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from access.hosts import is_our_name
from core.errors import Invalid, LobwifeError
from core.rest import JSON, check_depth, json_response
from lobwife import __version__
from lobwife.mcp.tools import INSTRUCTIONS, TOOLS, call_tool, described

# 2025-03-26 knew batches, which no client is known to send.
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_UNSUPPORTED_VERSION = -32022
_ACCEPTED = ("application/json", "application/*", "*/*")


class ProtocolError(Exception):
    """A message that can't be answered; it becomes an error of JSON-RPC."""

    def __init__(self, code: int, sentence: str, status: int = 200, data: Any = None) -> None:
        super().__init__(sentence)
        self.code, self.status, self.data = code, status, data


@csrf_exempt  # the gate asks for the token where a session is the credential
def serve(request: HttpRequest) -> HttpResponse:
    """Answer one message: a request with its result, a notification with 202 and no body."""
    identifier = None
    try:
        _check_headers(request)
        message = _message(request)
        identifier = _identifier(message)
        if identifier is None:
            return HttpResponse(status=202, content_type=JSON)
        method = message["method"]
        if method != "initialize":
            _check_version(request)
        result = _result(request, method, message.get("params", {}))
    except ProtocolError as error:
        content = {"code": error.code, "message": str(error)}
        if error.data is not None:
            content["data"] = error.data
        return json_response({"jsonrpc": "2.0", "id": identifier, "error": content}, error.status)
    return json_response({"jsonrpc": "2.0", "id": identifier, "result": result})


def _check_headers(request: HttpRequest) -> None:
    """Refuse pages of other sites, whatever name they have lead here, and clients that don't take JSON."""
    origin = request.META.get("HTTP_ORIGIN")
    if origin is not None and not _is_our_origin(request, origin):
        raise ProtocolError(_INVALID_REQUEST, "a page of another site may not call this", 403)
    if request.content_type != "application/json":
        raise ProtocolError(_INVALID_REQUEST, "the Content-Type must be application/json", 415)
    accept = request.META.get("HTTP_ACCEPT")
    if accept and not any(each in accept for each in _ACCEPTED):
        raise ProtocolError(_INVALID_REQUEST, "the answer is application/json, which Accept doesn't name", 406)


def _is_our_origin(request: HttpRequest, origin: str) -> bool:
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(host) and (host == request.get_host() or is_our_name(host))


def _check_version(request: HttpRequest) -> None:
    version = request.META.get("HTTP_MCP_PROTOCOL_VERSION")
    if version is not None and version not in VERSIONS:
        sentence = f"protocol version {version[:40]!r} is not supported, but {', '.join(VERSIONS)}"
        raise ProtocolError(_UNSUPPORTED_VERSION, sentence, 400, {"supported": list(VERSIONS), "requested": version})


def _message(request: HttpRequest) -> dict[str, Any]:
    try:
        body = request.body
        message = orjson.loads(body)
        check_depth(message, body)
    except RequestDataTooBig:
        raise ProtocolError(_INVALID_REQUEST, "the body is larger than 1 MiB", 413) from None
    except (orjson.JSONDecodeError, UnreadablePostError):
        raise ProtocolError(_PARSE_ERROR, "this is not JSON", 400) from None
    except Invalid as error:
        raise ProtocolError(_INVALID_REQUEST, str(error), 400) from None
    if isinstance(message, list):
        raise ProtocolError(_INVALID_REQUEST, "batches are not supported: send each message by itself", 400)
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise ProtocolError(_INVALID_REQUEST, 'a message is an object with "jsonrpc": "2.0"', 400)
    return message


def _identifier(message: dict[str, Any]) -> str | int | None:
    """Return the id that a request is to be answered with; None for a notification, and for an answer of the client."""
    if "method" not in message and ("result" in message or "error" in message):
        return None
    if not isinstance(message.get("method"), str):
        raise ProtocolError(_INVALID_REQUEST, "method must be text", 400)
    if "id" not in message:
        return None
    identifier = message["id"]
    if isinstance(identifier, bool) or not isinstance(identifier, str | int):
        raise ProtocolError(_INVALID_REQUEST, "id must be text or a whole number", 400)
    return identifier


def _result(request: HttpRequest, method: str, parameters: Any) -> dict[str, Any]:
    if not isinstance(parameters, dict):
        raise ProtocolError(_INVALID_PARAMS, "params must be an object")
    if method == "initialize":
        return _initialized(parameters)
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": described()}
    if method == "tools/call":
        return _called(request, parameters)
    raise ProtocolError(_NO_METHOD, f"there is no method {method[:100]!r}")


def _initialized(parameters: dict[str, Any]) -> dict[str, Any]:
    wanted = parameters.get("protocolVersion")
    if not isinstance(wanted, str):
        raise ProtocolError(_INVALID_PARAMS, "protocolVersion must be text, such as 2025-11-25")
    return {
        "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "lobwife", "version": __version__},
        "instructions": INSTRUCTIONS,
    }


def _called(request: HttpRequest, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a tool; what it is refused is a result too, which a model reads and acts on."""
    tool = TOOLS.get(str(parameters.get("name")))
    if tool is None:
        raise ProtocolError(_INVALID_PARAMS, f"name must be one of {', '.join(TOOLS)}")
    arguments = parameters.get("arguments", {})
    if not isinstance(arguments, dict):
        raise ProtocolError(_INVALID_PARAMS, "arguments must be an object")
    try:
        text, is_error = orjson.dumps(call_tool(request, tool, arguments)).decode(), False
    except LobwifeError as error:
        text, is_error = str(error), True
    return {"content": [{"type": "text", "text": text}], "isError": is_error}
