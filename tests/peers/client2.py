"""The official Python SDK of the second generation as a client: client2.py URL SERVER MODE.

MODE is `auto`, which begins with the stateless revision, or `legacy`. Checks what a client sees of one of
the test servers and prints a summary as one line of JSON.
"""

import asyncio
import json
import sys

from mcp import types
from mcp.client import Client

checks: list[str] = []


def expect(what: str, holds: bool, seen: object = None) -> None:
    if not holds:
        raise SystemExit(f"{what}: {seen!r}")
    checks.append(what)


def text(result: types.CallToolResult) -> str:
    return result.content[0].text


async def fixture(client: Client, mode: str, logged: asyncio.Queue) -> None:
    said = await client.call_tool("test_simple_text", {})
    expect("call", "simple text" in text(said), said)
    asked = await client.call_tool("test_elicitation", {"message": "who?"})
    expect("elicitation", "ann" in text(asked), asked)
    sampled = await client.call_tool("test_sampling", {"prompt": "hm?"})
    expect("sampling", "LLM response: sampled" in text(sampled), sampled)
    steps: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
    expect("progress", steps == [0, 50, 100], steps)
    await client.call_tool("test_logging_tool", {})
    line = await asyncio.wait_for(logged.get(), 30)
    expect("logging", line.data == "a line", line)
    if mode == "auto":
        async with client.listen(
            tools_list_changed=True, resource_subscriptions=["test://watched-resource"]
        ) as subscription:
            await client.call_tool("test_trigger_tool_change", {})
            event = await asyncio.wait_for(anext(aiter(subscription)), 30)
            expect("subscription", "ToolsListChanged" in type(event).__name__, event)
    try:
        await asyncio.wait_for(client.call_tool("test_waits_for_ever", {}), 0.5)
        expect("cancellation", False)
    except TimeoutError:
        pass
    said = await client.call_tool("test_simple_text", {})
    expect("cancellation", "simple text" in text(said), said)


async def everything(client: Client, mode: str, logged: asyncio.Queue) -> None:
    echoed = await client.call_tool("echo", {"message": "hello"})
    expect("call", "hello" in text(echoed), echoed)
    resources = await client.list_resources()
    read = await client.read_resource(resources.resources[0].uri)
    expect("resources", len(read.contents) > 0, read)


async def time(client: Client, mode: str, logged: asyncio.Queue) -> None:
    now = await client.call_tool("get_current_time", {"timezone": "Europe/Berlin"})
    expect("call", json.loads(text(now))["timezone"] == "Europe/Berlin", now)


async def on_elicitation(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"username": "ann", "email": "ann@example.com"})


async def on_sampling(context: object, params: object) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text="sampled")
    return types.CreateMessageResult(role="assistant", content=content, model="none")


async def main(url: str, server: str, mode: str) -> None:
    logged: asyncio.Queue = asyncio.Queue()

    async def on_log(params: types.LoggingMessageNotificationParams) -> None:
        await logged.put(params)

    async with Client(
        url,
        mode=mode,
        elicitation_callback=on_elicitation,
        sampling_callback=on_sampling,
        logging_callback=on_log,
        log_level="info" if mode == "auto" else None,
    ) as client:
        if mode == "legacy" and server == "fixture":
            await client.set_logging_level("info")
        tools = (await client.list_tools()).tools
        await {"fixture": fixture, "everything": everything, "time": time}[server](client, mode, logged)
    print(json.dumps({"server": server, "mode": mode, "tools": len(tools), "checks": checks}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
