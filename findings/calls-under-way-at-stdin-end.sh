#!/usr/bin/env bash
# What becomes of a call that is under way when a server's standard input ends.
#
# Packages: @modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/server 2.4.0 (zod 4.6.7), mcp 1.30.0, mcp 2.3.0.
# Expected: the TypeScript servers finish the call and write its answer, the Python ones drop it without a word.
# Seen:     four SDKs, four behaviours; all exit with 0.
#             typescript 1.32   finishes the call and writes its answer
#             typescript 2.4    finishes the call (its effects happen), writes nothing
#             python 1.30       cancels the call, writes nothing
#             python 2.3        cancels the call, writes the error -32000 "Connection closed" as its answer
# Why it matters: a host that ends a server's input to stop it must first wait for what is under way, and must not take
# the last error for the tool's own; with typescript 2.4 a call without an answer may still have been carried out.
set -euo pipefail
for tool in node npm uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo '{ "private": true, "type": "module" }' > "$work/package.json"
npm install --prefix "$work" --silent --no-audit --no-fund \
    @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/server@2.4.0 zod@4.6.7
for version in 1.30.0 2.3.0; do
    uv venv --quiet "$work/py$version"
    uv pip install --quiet --python "$work/py$version" "mcp==$version"
done

# Each server has one tool: it waits for a second, then leaves a file.
cat > "$work/body.mjs" <<'EOF'
import { writeFileSync } from 'node:fs';
import { z } from 'zod';
export async function serve(Server, Transport, schema) {
    const server = new Server({ name: 'finding', version: '1' });
    server.registerTool('wait', { inputSchema: schema(z) }, async ({ file }) => {
        await new Promise(done => setTimeout(done, 1000));
        writeFileSync(file, '');
        return { content: [{ type: 'text', text: 'waited' }] };
    });
    await server.connect(new Transport());
}
EOF
cat > "$work/ts1.mjs" <<'EOF'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { serve } from './body.mjs';
await serve(McpServer, StdioServerTransport, z => ({ file: z.string() }));
EOF
cat > "$work/ts2.mjs" <<'EOF'
import { McpServer } from '@modelcontextprotocol/server';
import { StdioServerTransport } from '@modelcontextprotocol/server/stdio';
import { serve } from './body.mjs';
await serve(McpServer, StdioServerTransport, z => z.object({ file: z.string() }));
EOF
cat > "$work/server.py" <<'EOF'
import asyncio
try:
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server
server = Server("finding")
@server.tool()
async def wait(file: str) -> str:
    await asyncio.sleep(1)
    open(file, "w").close()
    return "waited"
server.run("stdio")
EOF
cat > "$work/drive.py" <<'EOF'
import json, os, subprocess, sys, time
mark, *command = sys.argv[1:]
server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
def send(**message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()
hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "finding", "version": "1"}}
send(id=1, method="initialize", params=hello)
server.stdout.readline()
send(method="notifications/initialized")
send(id=2, method="tools/call", params={"name": "wait", "arguments": {"file": mark}})
send(id=3, method="ping")
while json.loads(server.stdout.readline())["id"] != 3:
    pass
time.sleep(0.3)
server.stdin.close()
last = server.stdout.read()
status = server.wait(20)
answer = "nothing"
if last:
    message = json.loads(last)
    answer = f"error {message['error']['code']} {message['error']['message']}" if "error" in message else "the result"
print(f"{answer}; {'finished' if os.path.exists(mark) else 'not finished'}; exit {status}")
EOF

seen=$(
    cd "$work"
    for one in 'typescript 1.32:node ts1.mjs' 'typescript 2.4:node ts2.mjs' \
        'python 1.30:py1.30.0/bin/python server.py' 'python 2.3:py2.3.0/bin/python server.py'; do
        # shellcheck disable=SC2086 # the command is meant to be split
        echo "${one%%:*}: $(timeout 60 python3 drive.py "$work/mark ${one%%:*}" ${one#*:})"
    done
)
expected='typescript 1.32: the result; finished; exit 0
typescript 2.4: nothing; finished; exit 0
python 1.30: nothing; not finished; exit 0
python 2.3: error -32000 Connection closed; not finished; exit 0'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
