"""The official SDK's client drives the eight tools: over HTTP, and through `lobwife-agent mcp`."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.support.access import make_key
from tests.support.installation import ROOT, Installation

if TYPE_CHECKING:
    from mcp.client import Client

PULL = "https://github.com/org/manual/pull/7"
DEADLINE_SECONDS = 60


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    [content] = result.content
    return json.loads(content.text)


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.content
    return str(result.content[0].text)


async def answer_the_question(server: Installation, number: int) -> None:
    """Answer as an operator does who sees the question come."""
    while not (asked := server.get(f"/api/v1/tasks/{number}/questions").json["questions"]):
        await asyncio.sleep(0.05)
    assert server.post(f"/api/v1/questions/{asked[0]['id']}/answer", {"answer": "B"}).status == 200


async def do_the_task(client: Client, server: Installation, number: int, **mine: str) -> None:
    """Drive all eight tools, from the claim to the end."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert len(tools) == 8
    assert tools["get_task"].annotations is not None
    assert tools["get_task"].annotations.read_only_hint
    task = await call(client, "next_task", types=["swe"], wait_seconds=20)
    assert task["task_id"] == f"T{number}"
    assert "One page for each chapter." in (await call(client, "get_task", **mine))["body"]
    assert (await call(client, "note_progress", **mine, text="the first chapter is done"))["noted"]
    answering = asyncio.create_task(answer_the_question(server, number))
    question = await call(client, "ask", **mine, text="Which title?", choices=["A", "B"], wait_seconds=30)
    await answering
    assert question["question"]["answer"] == "B"
    assert (await call(client, "add_link", **mine, url=PULL, kind="pull"))["kind"] == "pull"
    subtask = await call(client, "create_subtask", **mine, name="Proofread", type="qa")
    events = (await call(client, "list_my_events", **mine))["events"]
    assert {"progress", "question_answered", "link_added"} <= {event["event_type"] for event in events}
    assert "outcome" in await refusal(client, "finish", **mine, outcome="done")
    await call(client, "finish", **mine, summary="The manual has all chapters", data={"chapters": 7})
    assert "over" in await refusal(client, "note_progress", task_id=f"T{number}", fence=1, text="one more")
    detail = server.get(f"/api/v1/tasks/{number}").json
    assert (detail["status"], detail["result"]["data"]) == ("completed", {"chapters": 7})
    assert [link["url"] for link in detail["links"]] == [PULL]
    assert server.get(f"/api/v1/tasks/{subtask['id']}").json["parent"] == number


@pytest.fixture(scope="module")
def sdk() -> ModuleType:
    """The SDK, imported here, since each process of a run collects these tests and one has them."""
    return importlib.import_module("mcp.client")


@pytest.fixture
def number(server: Installation) -> int:
    fields = {"name": "Write the manual", "body": "One page for each chapter.", "type": "swe"}
    return int(server.post("/api/v1/tasks", fields).json["id"])


def test_a_model_with_a_runner_s_key_does_a_task_over_http(sdk: ModuleType, server: Installation, number: int) -> None:
    headers = make_key(server, "box-3", "runner")

    async def drive() -> None:
        async with httpx2.AsyncClient(headers=headers, timeout=40) as http:
            transport = sdk.streamable_http.streamable_http_client(
                f"http://127.0.0.1:{server.api_port}/mcp", http_client=http
            )
            async with asyncio.timeout(DEADLINE_SECONDS), sdk.Client(transport) as client:
                assert client.session.protocol_version == "2025-11-25"
                await do_the_task(client, server, number, task_id=f"T{number}")

    asyncio.run(drive())


def test_a_model_within_a_task_does_it_through_lobwife_agent(
    sdk: ModuleType, server: Installation, number: int
) -> None:
    claimed = server.post("/api/v1/tasks/claim", {"types": ["swe"]}).json
    assert claimed["id"] == number
    url = f"http://127.0.0.1:{server.api_port}"
    program = sdk.stdio.StdioServerParameters(
        command=str(ROOT / "deploy" / "bin" / "lobwife-agent"),
        args=["mcp"],
        env={"PATH": os.environ["PATH"], "LOBWIFE_URL": url, "LOBWIFE_API_KEY": claimed["key"]},
    )

    async def drive() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS), sdk.Client(program) as client:
            await do_the_task(client, server, number)

    asyncio.run(drive())
