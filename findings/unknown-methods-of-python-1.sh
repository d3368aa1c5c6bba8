#!/usr/bin/env bash
# The error code by which servers of the older revisions refuse a method they do not know, such as server/discover.
#
# Packages: @modelcontextprotocol/sdk 1.32.2, mcp 1.30.0, mcp 2.3.0, fastmcp 3.4.11 (with mcp 1.30.0).
# Expected: -32601 (method not found) from each of them, both before initialize and after it.
# Seen:     -32602 "Invalid request parameters" from everything that is built on the Python SDK 1.x, before and after; its log has a
#           list of validation errors, one for each method that it knows. TypeScript 1.32 and Python 2.3 answer -32601 after initialize.
# Why it matters: who asks a server for its era by sending server/discover must take -32602 for "older" as well, and can't
# tell "this method is unknown" from "these parameters are wrong"; falling back upon -32601 alone loses every Python 1.x server.
set -euo pipefail
for tool in node npm uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true, "type": "module" }' > package.json
npm install --prefix . --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2
for one in py1:mcp==1.30.0 py2:mcp==2.3.0; do
    uv venv --quiet "${one%%:*}"
    uv pip install --quiet --python "${one%%:*}" "${one#*:}"
done
uv venv --quiet fastmcp3
uv pip install --quiet --python fastmcp3 fastmcp==3.4.11 mcp==1.30.0

cat > server.mjs <<'EOF'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
await new McpServer({ name: 'finding', version: '1' }).connect(new StdioServerTransport());
EOF
echo 'from mcp.server.fastmcp import FastMCP; FastMCP("finding").run("stdio")' > py1.py
echo 'from mcp.server.mcpserver import MCPServer; MCPServer("finding").run("stdio")' > py2.py
echo 'from fastmcp import FastMCP; FastMCP("finding").run("stdio", show_banner=False)' > fastmcp3.py
cat > drive.py <<'EOF'
import json, subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
def send(**message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()
def ask(method, params):
    send(id=1, method=method, params=params)
    while "id" not in (answer := json.loads(server.stdout.readline())):
        pass
    return answer
def unknown():
    return ask("example/unknown", {})["error"]["code"]
before = unknown()
ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "finding", "version": "1"}})
send(method="notifications/initialized")
print(f"{before} before initialize, {unknown()} after")
server.stdin.close()
server.wait(20)
EOF
seen=$(
    for one in 'typescript 1.32:node server.mjs' 'python 1.30:py1/bin/python py1.py' 'python 2.3:py2/bin/python py2.py' \
        'fastmcp 3.4:fastmcp3/bin/python fastmcp3.py'; do
        # shellcheck disable=SC2086 # the command is meant to be split
        echo "${one%%:*}: $(timeout 60 python3 drive.py ${one#*:})"
    done
)
expected='typescript 1.32: -32601 before initialize, -32601 after
python 1.30: -32602 before initialize, -32602 after
python 2.3: -32601 before initialize, -32601 after
fastmcp 3.4: -32602 before initialize, -32602 after'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
