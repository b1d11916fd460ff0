"""MCP over stdio: passes each line on to lobwife's /mcp and prints the answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from .client import Client
from .errors import LobwifeError, Refused

_PATH = "/mcp"
_PARSE_ERROR, _INTERNAL_ERROR = -32700, -32603
_TIMEOUT_SECONDS = 120.0  # a tool may wait
_CHANGE_NOTHING = ("initialize", "ping", "tools/list")


def serve(client: Client, lines: Iterable[str] | None = None, output: TextIO | None = None) -> int:
    """Pass messages on, one a line, until the input ends; return the exit code."""
    headers: dict[str, str] = {"Accept": "application/json, text/event-stream"}
    for line in sys.stdin if lines is None else lines:
        if line.strip():
            answer = _exchange(client, line, headers)
            if answer is not None:
                print(json.dumps(answer), file=output or sys.stdout, flush=True)
    return 0


def _exchange(client: Client, line: str, headers: dict[str, str]) -> Any:
    """Return the answer to a message, None where it has none; what fails is an error of the protocol."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return _error(None, _PARSE_ERROR, "this is not JSON")
    method = message.get("method") if isinstance(message, dict) else None
    try:
        answer = client.transport.call(
            *("POST", _PATH, message),
            headers=headers,
            is_repeatable=method in _CHANGE_NOTHING,
            timeout=_TIMEOUT_SECONDS,
        )
    except LobwifeError as error:
        if isinstance(error, Refused) and isinstance(error.data, dict) and "jsonrpc" in error.data:
            return error.data
        if not isinstance(message, dict) or "id" not in message:
            print(f"lobwife-agent mcp: {error}", file=sys.stderr)
            return None
        return _error(message["id"], _INTERNAL_ERROR, str(error))
    if method == "initialize" and isinstance(answer.data, dict):
        version = (answer.data.get("result") or {}).get("protocolVersion")
        if version:
            headers["MCP-Protocol-Version"] = str(version)
    return answer.data


def _error(identifier: Any, code: int, sentence: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": sentence}}
