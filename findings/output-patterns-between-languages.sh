#!/usr/bin/env bash
# What TypeScript clients make of an output schema whose pattern JavaScript does not know.
#
# Packages: mcp 2.3.0 (server; its model's pattern is "(?i)^done$"), @modelcontextprotocol/sdk 1.32.2 and
# @modelcontextprotocol/client 2.4.0 (clients).
# Expected: both clients refuse the whole list of tools, or both only skip the check of that one tool's output.
# Seen:     with 1.32 tools/list fails as a whole ("Invalid regular expression"), so that no tool of the server can be found, though
#           calls by name work. With 2.4 the list is fine, and each call of that tool is refused by the client (-32602), so that the
#           server never sees it. The same pattern in an input schema is never looked at.
# Why it matters: one tool takes the whole server from such clients, with an error that looks like the host's; a host that joins
# the lists of several servers makes it every server's. It does not show with the Python clients that servers are tested with.
set -euo pipefail
for tool in node npm uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true, "type": "module" }' > package.json
npm install --prefix . --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0
uv venv --quiet py
uv pip install --quiet --python py mcp==2.3.0

cat > server.py <<'EOF'
import sys
from typing import Annotated
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, Field
Word = Annotated[str, Field(pattern="(?i)^done$")]
class Outcome(BaseModel):
    state: Word
server = MCPServer("finding")
if sys.argv[1] == "output":
    @server.tool()
    def work() -> Outcome:
        open(sys.argv[2], "w").close()
        return Outcome(state="DONE")
else:
    @server.tool(structured_output=False)
    def work(state: Word = "done") -> str:
        open(sys.argv[2], "w").close()
        return state
@server.tool(structured_output=False)
def other() -> str:
    return "other"
server.run("stdio")
EOF
cat > client.mjs <<'EOF'
import { existsSync } from 'node:fs';
const [version, where, mark] = process.argv.slice(2);
const first = version === '1.32';
const { Client } = await import(first ? '@modelcontextprotocol/sdk/client/index.js' : '@modelcontextprotocol/client');
const { StdioClientTransport } = await import(first ? '@modelcontextprotocol/sdk/client/stdio.js' : '@modelcontextprotocol/client/stdio');
const client = new Client({ name: 'finding', version: '1' });
await client.connect(new StdioClientTransport({ command: 'py/bin/python', args: ['server.py', where, mark], stderr: 'ignore' }));
const why = error => (String(error.message).includes('Invalid regular expression') ? 'Invalid regular expression' : error.message);
const list = await client.listTools().then(list => `${list.tools.length} tools`, why);
const call = await client.callTool({ name: 'work', arguments: {} }).then(() => 'answered', why);
console.log(`${version}, ${where}: list: ${list}; call: ${call}, ${existsSync(mark) ? 'carried out' : 'not carried out'}`);
process.exit(0);
EOF
seen=$(for version in 1.32 2.4; do for where in input output; do
    timeout 60 node client.mjs $version $where "$work/mark-$version-$where"
done; done)
expected='1.32, input: list: 2 tools; call: answered, carried out
1.32, output: list: Invalid regular expression; call: answered, carried out
2.4, input: list: 2 tools; call: answered, carried out
2.4, output: list: 2 tools; call: Invalid regular expression, not carried out'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
