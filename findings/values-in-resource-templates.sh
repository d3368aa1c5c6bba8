#!/usr/bin/env bash
# What a resource's function is given of a value that RFC 6570 has percent-encoded, and whether a variable may be left out.
#
# Packages: @modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/server 2.4.0, mcp 1.30.0, mcp 2.3.0.
# Expected: TypeScript hands the encoded text on, Python decodes it; {?q} without q, whose expansion is nothing, is not found by
#           TypeScript, and Python 1.30 has no such templates.
# Seen:     the border is elsewhere: Python 1.30 does not decode either, 2.3 does, so that "a%2Fb" becomes a path's "a/b" when a server
#           moves to 2.x with its code unchanged. Of one template, {?q,r}, TypeScript finds nothing but q and r both, in that order.
# Why it matters: who allows or binds resources by URI sees one text, the server's function another, depending on its SDK's
# version; and a client that expands a template as the RFC says gets "not found" from servers in TypeScript.
set -euo pipefail
for tool in node npm uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true, "type": "module" }' > package.json
npm install --prefix . --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/server@2.4.0
for version in 1.30.0 2.3.0; do
    uv venv --quiet "py$version"
    uv pip install --quiet --python "py$version" "mcp==$version"
done

cat > server.mjs <<'EOF'
const first = process.argv[2] === '1.32';
const { McpServer, ResourceTemplate } = await import(first ? '@modelcontextprotocol/sdk/server/mcp.js' : '@modelcontextprotocol/server');
const { StdioServerTransport } = await import(first ? '@modelcontextprotocol/sdk/server/stdio.js' : '@modelcontextprotocol/server/stdio');
const server = new McpServer({ name: 'finding', version: '1' });
for (const [name, uri] of [['item', 'item://all/{id}'], ['search', 'search://all{?q,r}']])
    server.registerResource(name, new ResourceTemplate(uri, { list: undefined }), {}, async (url, { id, q, r }) => (
        { contents: [{ uri: url.href, text: name === 'item' ? id : `q=${q} r=${r}` }] }));
await server.connect(new StdioServerTransport());
EOF
cat > server.py <<'EOF'
try:
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server
server = Server("finding")
@server.resource("item://all/{id}")
def item(id: str) -> str:
    return id
def search(q: str = "-", r: str = "-") -> str:
    return f"q={q} r={r}"
try:
    server.resource("search://all{?q,r}")(search)
except ValueError:
    pass
server.run("stdio")
EOF
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
ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "finding", "version": "1"}})
send(method="notifications/initialized")
def read(uri):
    answer = ask("resources/read", {"uri": uri})
    return answer["result"]["contents"][0]["text"] if "result" in answer else "none"
print(*map(read, ["item://all/a%2Fb", "item://all/a%20b", "search://all?q=1&r=2", "search://all?r=2"]), sep=" | ")
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
expected='typescript 1.32: a%2Fb | a%20b | q=1 r=2 | none
typescript 2.4: a%2Fb | a%20b | q=1 r=2 | none
python 1.30: a%2Fb | a%20b | none | none
python 2.3: a/b | a b | q=1 r=2 | q=- r=2'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
