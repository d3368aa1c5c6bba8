#!/usr/bin/env bash
# Which strings reach the tool of a Python server as they were sent.
#
# Packages: mcp 1.30.0, mcp 2.3.0.
# Expected: an argument that is a string, and fits the schema that the server gave, arrives as that string.
# Seen:     unless the parameter is plainly `str`, the text is read as JSON first. For `str | None` the text "null" arrives as
#           None, and the text "[1]" is refused ("Input should be a valid string") though the schema has "type": "string" for
#           it; for a parameter of any type the text {"a": 1} arrives as a dict. "7" stays a string for `str | int`.
# Why it matters: a host that checks arguments against a tool's schema, or fills one in for its caller, finds that valid ones
# are refused or changed by the server; a bound value such as a file's text must not go to such a parameter.
set -euo pipefail
for tool in uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for version in 1.30.0 2.3.0; do
    uv venv --quiet "py$version"
    uv pip install --quiet --python "py$version" "mcp==$version"
done

cat > server.py <<'EOF'
from typing import Any
try:
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server
server = Server("finding")
@server.tool()
def text(value: str) -> str:
    return repr(value)
@server.tool()
def optional(value: str | None) -> str:
    return repr(value)
@server.tool()
def number(value: str | int) -> str:
    return repr(value)
@server.tool()
def anything(value: Any) -> str:
    return repr(value)
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
    return answer["result"]
ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "finding", "version": "1"}})
send(method="notifications/initialized")
for tool, value in [("text", "null"), ("optional", "null"), ("optional", "[1]"), ("number", "7"), ("anything", '{"a": 1}')]:
    result = ask("tools/call", {"name": tool, "arguments": {"value": value}})
    print(f"{tool} {value}:", "refused" if result.get("isError") else result["content"][0]["text"])
server.stdin.close()
server.wait(20)
EOF
expected="text null: 'null'
optional null: None
optional [1]: refused
number 7: '7'
anything {\"a\": 1}: {'a': 1}"
for version in 1.30.0 2.3.0; do
    seen=$(timeout 60 python3 drive.py "py$version/bin/python" server.py)
    if [ "$seen" != "$expected" ]; then
        printf 'mcp %s\nexpected:\n%s\nseen:\n%s\n' "$version" "$expected" "$seen" >&2
        exit 1
    fi
done
printf '%s\nas found\n' "$seen"
