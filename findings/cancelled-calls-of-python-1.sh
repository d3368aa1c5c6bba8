#!/usr/bin/env bash
# Whether a client tells its server that it no longer waits for a call.
#
# Packages: mcp 1.30.0, mcp 2.3.0, @modelcontextprotocol/sdk 1.32.2.
# Expected: each sends notifications/cancelled, both when the caller gives up and when the call's time is over, as the
#           specification asks of senders in both cases.
# Seen:     the Python client 1.30 never does: the task is cancelled, or the time-out raised, and the server works on. Python 2.3 and
#           TypeScript send it in both cases.
# Why it matters: behind a host, calls that nobody waits for hold a worker's place until they end by themselves; a time limit of
# the host's own is the only thing that frees it, and the client may ask again while the first call is still under way.
set -euo pipefail
for tool in node npm uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true, "type": "module" }' > package.json
npm install --prefix . --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2
for version in 1.30.0 2.3.0; do
    uv venv --quiet "py$version"
    uv pip install --quiet --python "py$version" "mcp==$version"
done

# Never answers a call; writes down what it is told of calls.
cat > server.py <<'EOF'
import json, sys
def answer(request, result):
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
for request in map(json.loads, sys.stdin):
    match request.get("method"):
        case "initialize":
            answer(request, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                             "serverInfo": {"name": "s", "version": "1"}})
        case "tools/list":
            answer(request, {"tools": [{"name": "never", "inputSchema": {"type": "object"}}]})
        case "tools/call" | "notifications/cancelled" as method:
            with open(sys.argv[1], "a") as told:
                told.write(method.split("/")[1] + " ")
EOF
cat > client.py <<'EOF'
import sys
from datetime import timedelta
from importlib.metadata import version
import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
limit = 0.5 if version("mcp").startswith("2") else timedelta(seconds=0.5)
async def main():
    async with stdio_client(StdioServerParameters(command="python3", args=["server.py", sys.argv[1]])) as streams:
        async with ClientSession(*streams) as session:
            await session.initialize()
            with anyio.move_on_after(0.5):
                await session.call_tool("never", {})
            try:
                await session.call_tool("never", {}, read_timeout_seconds=limit)
            except Exception:
                pass
            await anyio.sleep(1)
anyio.run(main)
EOF
cat > client.mjs <<'EOF'
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
const client = new Client({ name: 'finding', version: '1' });
await client.connect(new StdioClientTransport({ command: 'python3', args: ['server.py', process.argv[2]] }));
for (const options of [{ signal: AbortSignal.timeout(500) }, { timeout: 500 }])
    await client.callTool({ name: 'never', arguments: {} }, undefined, options).catch(() => {});
await new Promise(done => setTimeout(done, 1000));
process.exit(0);
EOF
seen=$(
    for one in 'python 1.30:py1.30.0/bin/python client.py' 'python 2.3:py2.3.0/bin/python client.py' \
        'typescript 1.32:node client.mjs'; do
        # shellcheck disable=SC2086 # the command is meant to be split
        timeout 60 ${one#*:} "told ${one%%:*}" > log 2>&1 || { cat log >&2; exit 1; }
        echo "${one%%:*}: $(cat "told ${one%%:*}")"
    done
)
expected='python 1.30: call call 
python 2.3: call cancelled call cancelled 
typescript 1.32: call cancelled call cancelled '
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
