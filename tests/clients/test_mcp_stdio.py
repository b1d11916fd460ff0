"""`lobwife-agent mcp`: MCP over stdio, passed on to /mcp."""

from __future__ import annotations

import json
import os
import subprocess

from tests.support.bad_server import HTML, Reply, bad_server
from tests.support.installation import ROOT


def talk(url: str, *lines: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [ROOT / "deploy/bin/lobwife-agent", "mcp"],
        input="\n".join(lines),
        env={"PATH": os.environ["PATH"], "LOBWIFE_URL": url, "LOBWIFE_API_KEY": "lw_lease"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


def message(method: str, number: int | None = None) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": method, **({} if number is None else {"id": number})})


def test_mcp_passes_each_line_on_and_prints_the_answer() -> None:
    with bad_server() as server:
        begun = {"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-06-18"}}
        tools = {"jsonrpc": "2.0", "id": 2, "result": {"tools": []}}
        wrong = {"jsonrpc": "2.0", "id": 3, "error": {"code": -32601, "message": "no such method"}}
        server.answer(
            "/mcp", *(Reply(200, begun), Reply(202, b""), Reply(502, HTML), Reply(200, tools), Reply(400, wrong))
        )
        lines = (message("initialize", 1), message("notifications/initialized"), "", message("tools/list", 2))
        assert talk(server.url, *lines, message("x", 3)) == [begun, tools, wrong]
        versions = [call.headers.get("MCP-Protocol-Version") for call in server.calls]
        assert versions == [None, *["2025-06-18"] * 4]
        assert {call.headers["Authorization"] for call in server.calls} == {"Bearer lw_lease"}


def test_mcp_says_in_the_protocol_what_went_wrong_and_goes_on() -> None:
    with bad_server() as server:
        server.answer("/mcp", Reply(401, {"error": "the lease is over"}), Reply(hang_up=True), Reply(200, {"id": 4}))
        calls = (message("tools/call", 1), message("notifications/x"), "{not json", message("tools/call", 3))
        answers = talk(server.url, *calls[:3], message("tools/call", 4))
        assert [answer.get("id") for answer in answers] == [1, None, 4]
        assert "the lease is over" in str(answers[0]["error"])
        assert "not JSON" in str(answers[1]["error"])
        assert len(server.calls) == 3, "a call of a tool that may have been carried out is not repeated"
