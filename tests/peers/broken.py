"""The official Python SDK of either generation as a client whose connections break: broken.py URL GENERATION.

Says `waited` when a call is answered whose connection broke meanwhile, `quiet` a while after calls that ended otherwise, and
`done` a while later.
"""

import asyncio
import sys
from contextlib import asynccontextmanager


@asynccontextmanager
async def connected(url: str, generation: str):
    if generation == "1":
        from mcp import ClientSession
        from mcp.client.streamable_http import streamable_http_client

        async with streamable_http_client(url) as (read, write, _session_id):
            async with ClientSession(read, write) as session:
                await session.initialize()
                yield session
    else:
        from mcp.client import Client

        async with Client(url, mode="legacy") as client:
            yield client


async def failed(call) -> None:
    try:
        result = await call
    except Exception:
        return
    raise SystemExit(f"no failure: {result!r}")


async def cancel(client) -> None:
    """Tells the server what this generation does not tell by itself."""
    from mcp import types

    params = types.CancelledNotificationParams(requestId=client._request_id - 1)
    cancelled = types.CancelledNotification(method="notifications/cancelled", params=params)
    await client.send_notification(types.ClientNotification(cancelled))


async def on_progress(progress: float, total: float | None, message: str | None) -> None:
    pass


async def main(url: str, generation: str) -> None:
    async with connected(url, generation) as client:
        waited = await client.call_tool("wait", {"seconds": 8})
        print(waited.content[0].text, flush=True)
        # Given up after its stream has begun.
        await failed(asyncio.wait_for(client.call_tool("wait", {"seconds": 60}), 3.5))
        if generation == "1":
            await cancel(client)
        await failed(client.call_tool("fail", {}, progress_callback=on_progress))
        await asyncio.sleep(5)
        print("quiet", flush=True)
        await asyncio.sleep(4)
        again = await client.call_tool("wait", {"seconds": 0})
        print("done" if again.content[0].text == "waited" else again, flush=True)


asyncio.run(main(*sys.argv[1:]))
