"""Python clients, and what they say of a request that fails: told.py URL CLIENT TOOL.

TOOL is called without arguments; as `NAME:N`, with a message of N letters.
CLIENT is `1` or `2` (the official SDK of that generation, with `initialize`), `2-auto` (the second one, which begins with
the stateless revision), `1-sse` (the first one, over HTTP+SSE) or `fastmcp`. Prints what the user is told of the failure, and whether the session goes on, as a line
of JSON.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager


@asynccontextmanager
async def connected(url: str, client: str):
    if client == "1":
        from mcp import ClientSession
        from mcp.client.streamable_http import streamable_http_client

        async with streamable_http_client(url) as (read, write, _session_id):
            async with ClientSession(read, write) as session:
                await session.initialize()
                yield session
    elif client == "1-sse":
        from mcp import ClientSession
        from mcp.client.sse import sse_client

        async with sse_client(url) as (read, write):
            async with ClientSession(read, write) as session:
                await session.initialize()
                yield session
    elif client == "fastmcp":
        from fastmcp import Client

        async with Client(url) as session:
            yield session
    else:
        from mcp.client import Client

        async with Client(url, mode="auto" if client == "2-auto" else "legacy") as session:
            yield session


def said(error: BaseException) -> str:
    inner = getattr(error, "exceptions", ())
    return " / ".join([str(error), *map(said, inner)])


async def main(url: str, client: str, tool: str) -> None:
    told, lives = "", False
    tool, _, letters = tool.partition(":")
    arguments = {"message": "x" * int(letters)} if letters else {}
    try:
        async with connected(url, client) as session:
            try:
                result = await asyncio.wait_for(session.call_tool(tool, arguments), 20)
                told = str(result)
            except Exception as error:
                told = said(error)
            # A server that has just died may be started again a moment later only.
            for _ in range(10):
                try:
                    again = await asyncio.wait_for(session.call_tool("echo", {"message": "on"}), 20)
                    lives = "on" in str(again.content)
                    break
                except TimeoutError:
                    break
                except Exception as error:
                    print(said(error), file=sys.stderr)
                    await asyncio.sleep(0.5)
    except BaseException as error:
        told = told or said(error)
    print(json.dumps({"told": told, "lives": lives}), flush=True)


asyncio.run(main(*sys.argv[1:]))
