#!/usr/bin/env bash
# Which servers declare that they log, and which log no more than they are told to.
#
# Packages: @modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/server 2.4.0 (zod 4.6.7), mcp 1.30.0, mcp 2.3.0.
# Expected: whoever sends log messages declares `logging`, and after logging/setLevel "error" a tool that logs at four levels is heard
#           of once; Python 1.30 may lack it, 2.3 has it.
# Seen:     so in TypeScript, both generations. Python servers of both generations send all four messages at any time, declare no
#           `logging`, and refuse logging/setLevel with -32601: their client can do nothing to be told less.
# Why it matters: a bridge that forwards log messages only where the capability is declared hides what a tool's author wrote; one that
# forwards them to a shared session cannot have the server filter, and has to do it itself.
set -euo pipefail
for tool in node npm uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true, "type": "module" }' > package.json
npm install --prefix . --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/server@2.4.0 zod@4.6.7
for version in 1.30.0 2.3.0; do
    uv venv --quiet "py$version"
    uv pip install --quiet --python "py$version" "mcp==$version"
done

cat > server.mjs <<'EOF'
const first = process.argv[2] === '1.32';
const { McpServer } = await import(first ? '@modelcontextprotocol/sdk/server/mcp.js' : '@modelcontextprotocol/server');
const { StdioServerTransport } = await import(first ? '@modelcontextprotocol/sdk/server/stdio.js' : '@modelcontextprotocol/server/stdio');
const server = new McpServer({ name: 'finding', version: '1' }, { capabilities: { logging: {} } });
server.registerTool('report', {}, async () => {
    for (const level of ['debug', 'info', 'warning', 'error'])
        await server.server.sendLoggingMessage({ level, data: 'said' });
    return { content: [] };
});
await server.connect(new StdioServerTransport());
EOF
cat > server.py <<'EOF'
try:
    from mcp.server.mcpserver import Context, MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP as Server
server = Server("finding")
@server.tool()
async def report(context: Context) -> str:
    for level in ["debug", "info", "warning", "error"]:
        await context.log(level, "said")
    return ""
server.run("stdio")
EOF
cat > drive.py <<'EOF'
import json, subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
heard = []
def send(**message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()
def ask(method, **params):
    send(id=1, method=method, params=params)
    while "id" not in (answer := json.loads(server.stdout.readline())):
        heard.append(answer["params"].get("level"))
    return answer
begun = ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "finding", "version": "1"})
send(method="notifications/initialized")
told = ask("logging/setLevel", level="error")
ask("tools/call", name="report", arguments={})
declared = "declared" if "logging" in begun["result"]["capabilities"] else "not declared"
print(declared, told["error"]["code"] if "error" in told else "told", *heard, sep=", ")
server.stdin.close()
server.wait(20)
EOF
seen=$(
    for one in 'typescript 1.32:node server.mjs 1.32' 'typescript 2.4:node server.mjs 2.4' \
        'python 1.30:py1.30.0/bin/python server.py' 'python 2.3:py2.3.0/bin/python server.py'; do
        # shellcheck disable=SC2086 # the command is meant to be split
        echo "${one%%:*}: $(timeout 60 python3 drive.py ${one#*:})"
    done
)
expected='typescript 1.32: declared, told, error
typescript 2.4: declared, told, error
python 1.30: not declared, -32601, debug, info, warning, error
python 2.3: not declared, -32601, debug, info, warning, error'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
