#!/usr/bin/env bash
# Whether a client tells of progress whose notification comes directly before the answer, in one piece of output.
#
# Packages: @modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/client 2.4.0, mcp 1.30.0.
# Expected: every client hands the progress on, then the result: the notification comes first.
# Seen:     both TypeScript clients lose it ("Received a progress notification for an unknown token" to onerror), for they work
#           on notifications one turn of the event loop later than on answers; with a pause of 200 ms it is told. Python tells it.
# Why it matters: a bridge that gathers a server's lines into one write, or one event stream chunk, makes the last progress (the
# "100 %") vanish although it passed every message on in order.
set -euo pipefail
for tool in node npm uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

echo '{ "private": true, "type": "module" }' > package.json
npm install --prefix . --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0
uv venv --quiet py
uv pip install --quiet --python py mcp==1.30.0

# Answers a call with one progress notification and the result; its argument is the pause between them in seconds.
cat > server.py <<'EOF'
import json, sys, time
pause = float(sys.argv[1])
def line(**message):
    return json.dumps({"jsonrpc": "2.0", **message}) + "\n"
def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()
for request in map(json.loads, sys.stdin):
    if "id" not in request:
        continue
    if request["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    elif request["method"] == "tools/list":
        result = {"tools": [{"name": "work", "inputSchema": {"type": "object"}}]}
    else:
        token = request["params"]["_meta"]["progressToken"]
        progress = line(method="notifications/progress", params={"progressToken": token, "progress": 1, "total": 1})
        result = {"content": [{"type": "text", "text": "done"}]}
        if pause:
            write(progress)
            time.sleep(pause)
            progress = ""
        write(progress + line(id=request["id"], result=result))
        continue
    write(line(id=request["id"], result=result))
EOF
cat > body.mjs <<'EOF'
export async function call(Client, Transport, options) {
    const client = new Client({ name: 'finding', version: '1' });
    await client.connect(new Transport({ command: 'python3', args: ['server.py', process.argv[2]] }));
    let told = 0;
    await client.callTool({ name: 'work', arguments: {} }, ...options({ onprogress: () => { told += 1; } }));
    await new Promise(done => setTimeout(done, 200));
    console.log(told);
    process.exit(0);
}
EOF
cat > ts1.mjs <<'EOF'
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { call } from './body.mjs';
await call(Client, StdioClientTransport, options => [undefined, options]);
EOF
cat > ts2.mjs <<'EOF'
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { call } from './body.mjs';
await call(Client, StdioClientTransport, options => [options]);
EOF
cat > client.py <<'EOF'
import anyio, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
async def main():
    told = []
    async def progress(done, total, message):
        told.append(done)
    async with stdio_client(StdioServerParameters(command="python3", args=["server.py", sys.argv[1]])) as streams:
        async with ClientSession(*streams) as session:
            await session.initialize()
            await session.call_tool("work", {}, progress_callback=progress)
            await anyio.sleep(0.2)
    print(len(told))
anyio.run(main)
EOF

seen=$(
    for one in 'typescript 1.32:node ts1.mjs' 'typescript 2.4:node ts2.mjs' 'python 1.30:py/bin/python client.py'; do
        # shellcheck disable=SC2086 # the command is meant to be split
        echo "${one%%:*}: $(timeout 60 ${one#*:} 0) told of one write, $(timeout 60 ${one#*:} 0.2) with a pause"
    done
)
expected='typescript 1.32: 0 told of one write, 1 with a pause
typescript 2.4: 0 told of one write, 1 with a pause
python 1.30: 1 told of one write, 1 with a pause'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
