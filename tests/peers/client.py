"""The official Python SDK as a client: client.py URL SERVER.

Checks what a client sees of one of the test servers and prints a summary as one line of JSON.
"""

import asyncio
import json
import sys

from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from pydantic import AnyUrl


class Peer:
    """A session, and what reached it unasked."""

    def __init__(self) -> None:
        self.checks: list[str] = []
        self.logged: asyncio.Queue = asyncio.Queue()
        self.updated: asyncio.Queue = asyncio.Queue()

    def expect(self, what: str, holds: bool, seen: object = None) -> None:
        if not holds:
            raise SystemExit(f"{what}: {seen!r}")
        self.checks.append(what)

    async def on_log(self, params: types.LoggingMessageNotificationParams) -> None:
        await self.logged.put(params)

    async def on_message(self, message: object) -> None:
        if isinstance(message, types.ServerNotification) and isinstance(
            message.root, types.ResourceUpdatedNotification
        ):
            await self.updated.put(str(message.root.params.uri))


def text(result: types.CallToolResult) -> str:
    return result.content[0].text


async def demo(peer: Peer, session: ClientSession) -> None:
    echoed = await session.call_tool("echo", {"message": "grüß dich"})
    peer.expect("echo", text(echoed) == "grüß dich", echoed)
    added = await session.call_tool("add", {"a": 2, "b": 3})
    peer.expect("structured content", added.structuredContent == {"sum": 5}, added)

    steps: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    await session.call_tool("sleep", {"seconds": 0.3, "steps": 3}, progress_callback=on_progress)
    peer.expect("progress", steps == [1, 2, 3], steps)

    await session.set_logging_level("warning")
    await session.call_tool("log", {"level": "info", "message": "quiet"})
    await session.call_tool("log", {"level": "error", "message": "loud"})
    logged = await asyncio.wait_for(peer.logged.get(), 30)
    peer.expect("logging", logged.data == "loud" and peer.logged.empty(), logged)

    counter = AnyUrl("demo://counter")
    await session.subscribe_resource(counter)
    await session.call_tool("counter", {})
    updated = await asyncio.wait_for(peer.updated.get(), 30)
    peer.expect("subscription", updated == "demo://counter", updated)
    await session.unsubscribe_resource(counter)

    listed = await session.list_resources()
    peer.expect("resources", "demo://greeting" in [str(r.uri) for r in listed.resources], listed)
    templates = await session.list_resource_templates()
    peer.expect("templates", len(templates.resourceTemplates) == 1, templates)
    read = await session.read_resource(AnyUrl("demo://echo/hello"))
    peer.expect("read", read.contents[0].text == "hello", read)
    prompt = await session.get_prompt("greet", {"name": "Ada"})
    peer.expect("prompt", "Ada" in prompt.messages[0].content.text, prompt)
    completed = await session.complete(
        types.PromptReference(type="ref/prompt", name="greet"), {"name": "name", "value": "A"}
    )
    peer.expect("completion", all(v.startswith("A") for v in completed.completion.values), completed)
    await session.send_ping()
    try:
        await session.call_tool("no such tool", {})
        peer.expect("unknown tool", False)
    except McpError as error:
        peer.expect("unknown tool", error.error.code == -32602, error)
    texts = await asyncio.gather(*(session.call_tool("echo", {"message": str(n)}) for n in range(50)))
    peer.expect("fifty at once", [text(t) for t in texts] == [str(n) for n in range(50)])


async def everything(peer: Peer, session: ClientSession) -> None:
    echoed = await session.call_tool("echo", {"message": "hello"})
    peer.expect("echo", "hello" in text(echoed), echoed)
    summed = await session.call_tool("get-sum", {"a": 2, "b": 3})
    peer.expect("sum", "5" in text(summed), summed)
    steps: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    await session.call_tool(
        "trigger-long-running-operation", {"duration": 1, "steps": 4}, progress_callback=on_progress
    )
    peer.expect("progress", steps == sorted(steps) and len(steps) >= 3, steps)
    resources = await session.list_resources()
    read = await session.read_resource(resources.resources[0].uri)
    peer.expect("resources", len(read.contents) > 0, read)
    prompts = await session.list_prompts()
    peer.expect("prompts", len(prompts.prompts) > 0, prompts)


async def time(peer: Peer, session: ClientSession) -> None:
    now = await session.call_tool("get_current_time", {"timezone": "Europe/Berlin"})
    peer.expect("now", json.loads(text(now))["timezone"] == "Europe/Berlin", now)
    arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    converted = await session.call_tool("convert_time", arguments)
    peer.expect("converted", json.loads(text(converted))["time_difference"] == "+9.0h", converted)


async def main(url: str, server: str) -> None:
    peer = Peer()
    async with streamable_http_client(url) as (read, write, _session_id):
        async with ClientSession(
            read, write, logging_callback=peer.on_log, message_handler=peer.on_message
        ) as session:
            hello = await session.initialize()
            tools = (await session.list_tools()).tools
            suite = {"demo": demo, "everything": everything, "time": time}[server]
            await suite(peer, session)
    summary = {
        "server": hello.serverInfo.name,
        "revision": hello.protocolVersion,
        "tools": len(tools),
        "checks": peer.checks,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
